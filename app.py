"""The app: `python app.py [--model FOLDER_OR_HUB_ID]`, then open http://127.0.0.1:7860."""

import argparse
import os
import sys

# Gradio reads these when it is imported.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

from vitmsn import limits
from vitmsn.errors import InputError


def main() -> int:
    parser = argparse.ArgumentParser(description="Serve the ViT-MSN demo.")
    parser.add_argument("--model", default=os.environ.get("VITMSN_MODEL") or None, help="a folder or a hub id")
    parser.add_argument("--host", help="address to listen on (default: GRADIO_SERVER_NAME or 127.0.0.1)")
    parser.add_argument("--port", type=int, help="port (default: GRADIO_SERVER_PORT or the first free from 7860)")
    options = parser.parse_args()
    try:
        limits.check()  # before the app is imported, which uses them
    except InputError as error:
        print(f"vitmsn: {error}", file=sys.stderr)
        return 2
    from vitmsn.ui.server import serve

    return serve(options.model, options.host, options.port)


if __name__ == "__main__":
    sys.exit(main())
