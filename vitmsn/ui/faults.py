"""What a visitor reads when something fails: our own sentences as they are. Anything else goes to the log."""

from __future__ import annotations

import logging

from vitmsn.devices import short_of_memory
from vitmsn.errors import ViTMSNError
from vitmsn.ui.locale import later, tr, tr_said
from vitmsn.ui.uploads import FULL, READ_ONLY

log = logging.getLogger("vitmsn.ui")

BROKEN = later("Something went wrong on this side, and it was written to the log; try again, or try another picture.")
NO_MEMORY = later(
    "There is not enough memory for this now; choose a smaller size or fewer pictures, or try again later."
)
NO_ROOM = later("This server has no room for files now; try again in some minutes.")


def sentence(error: Exception, where: str) -> str:
    """What to say of an error in the function `where`; no path, no traceback."""
    if isinstance(error, ViTMSNError):
        return tr_said(str(error))
    log.error("%s failed", where, exc_info=error)
    if short_of_memory(error):
        return tr(NO_MEMORY)
    if isinstance(error, OSError) and error.errno in (*FULL, *READ_ONLY):
        return tr(NO_ROOM)
    return tr(BROKEN)
