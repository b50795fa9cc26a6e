"""`serve`: the page in the browser."""

from __future__ import annotations

import os

from vitmsn import extras
from vitmsn.cli.inputs import Options


def serve(options: Options) -> int:
    # Gradio reads these when it is imported
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # torch's threads read it when they begin, see app.py
    with extras.named():
        import vitmsn.ui.zero_gpu  # noqa: F401 (before Gradio, see there)
        from vitmsn.ui.server import serve as serve_page

    return serve_page(options.model, options.host, options.port, options.mcp, options.share_local)
