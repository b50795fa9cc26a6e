"""What Gradio keeps of each session, without the description of the page.

Gradio's own sessions hold a copy of the whole page, 0.7 MB and some milliseconds each, and put every answer into it, so
that `/deep_link` can save it; that address is closed here. Each request without a session makes one, and 200 are kept.
"""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

from gradio import state_holder


class Session(state_holder.SessionState):
    """Functions and components as this session has them; nothing of what its page shows."""

    def __init__(self, page: Any) -> None:
        super().__init__(SimpleNamespace(default_config=page.default_config, blocks=()))  # type: ignore[arg-type]

    def __setitem__(self, key: int, value: Any) -> None:
        super().__setitem__(key, value)
        self.config_values.clear()

    def _update_config(self, key: int) -> None:
        pass

    def _update_value_in_config(self, key: int, value: Any) -> None:
        pass


for _name, _module in list(sys.modules.items()):
    if _name.startswith("gradio.") and vars(_module).get("SessionState") is Session.__base__:
        _module.SessionState = Session  # type: ignore[attr-defined]
