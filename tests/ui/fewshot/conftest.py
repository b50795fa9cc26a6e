"""A visitor with their own classes."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from vitmsn.ui.fewshot import tab
from vitmsn.ui.visits import Call

Calls = Callable[..., Call]


@pytest.fixture
def own(call: Calls) -> Call:
    """A visitor who chose "Your own pictures" and named two classes."""
    made = call()
    tab.start(made, "")
    tab.add_class(made, "red")
    tab.add_class(made, "blue")
    return made
