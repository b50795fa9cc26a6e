"""The app: `python app.py [--model FOLDER_OR_HUB_ID]`, then open http://127.0.0.1:7860."""

import argparse
import os
import sys

# Gradio reads these when it is imported.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
# torch's threads read it when they begin: one that waits for another sleeps, because on a busy machine it would spin
# through the time that the other one needs
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from vitmsn import limits
from vitmsn.errors import InputError

try:
    limits.check()  # before the app is imported, which uses them
except InputError as error:
    print(f"vitmsn: {error}", file=sys.stderr)
    sys.exit(2)

import vitmsn.ui.zero_gpu  # noqa: F401 (before Gradio: it imports `spaces` where that is installed)
from vitmsn.ui.server import prepare


def arguments(given: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Serve the ViT-MSN demo.")
    parser.add_argument("--model", default=os.environ.get("VITMSN_MODEL") or None, help="a folder or a hub id")
    parser.add_argument("--host", help="address to listen on (default: GRADIO_SERVER_NAME or 127.0.0.1)")
    parser.add_argument("--port", type=int, help="port (default: GRADIO_SERVER_PORT or the first free from 7860)")
    parser.add_argument("--mcp", action="store_true", help="also answer agents, over MCP (or VITMSN_MCP=1)")
    parser.add_argument("--share-local", action="store_true", help="class mode: let phones of the local network join")
    return parser.parse_args(given)


options = arguments(sys.argv[1:] if __name__ == "__main__" else [])
server = prepare(options.model, options.host, options.port, options.mcp, options.share_local)
demo = server.app.page  # Gradio looks for the page by this name when it reloads this file

if __name__ == "__main__":
    sys.exit(server.run(options.port))
