#!/usr/bin/env bash
# Makes sure that the browser tests find a Chromium: the system's, else apt-get's, else Playwright's own.
# Usage: bash tests/browser/install.sh PYTHON
set -euo pipefail
cd "$(dirname "$0")/../.."
python=${1:?which python runs the tests}

found() { "$python" tests/browser/chromium.py; }

found && exit 0

root=()
[ "$(id -u)" = 0 ] || root=(sudo -n)
if command -v apt-get >/dev/null && "${root[@]}" true 2>/dev/null; then
    echo "No Chromium here: asking apt-get for one."
    export DEBIAN_FRONTEND=noninteractive
    "${root[@]}" apt-get update -qq || echo "apt-get update failed; trying with the lists that are here." >&2
    "${root[@]}" apt-get install -y -qq --no-install-recommends chromium </dev/null || echo "apt-get has none." >&2
    found && exit 0
fi

echo "No Chromium here: asking Playwright for its own."
"$python" -m playwright install chromium || true
found && exit 0

echo "The browser tests need Chromium and none could be installed: install chromium (or Google Chrome) so that it is on the PATH, then run make test again." >&2
exit 1
