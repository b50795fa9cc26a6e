"""The page's own scripts: the address and the history, opening tabs, scrolling to results, the header."""

from __future__ import annotations

from vitmsn.ui.shared.scripts import OF_PICTURES, run, script
from vitmsn.ui.visits import OWN

OWN_SCRIPTS = (
    *("address.js", "skip_link.js", "next_tab.js", "tab_keys.js"),
    *("unheard.js", "announce.js", "folds.js", "menus.js"),
)
HEADER = "\n".join((script(__file__, *OWN_SCRIPTS), OF_PICTURES))
ABOUT = script(__file__, "about.js", "language.js")
KEEP_IN_ADDRESS = script(__file__, "keep_in_address.js")
OWN_PICTURE = run(KEEP_IN_ADDRESS, "example", OWN)
NO_PICTURE = "() => window.msnAddress.drop('example')"
OPEN_TAB = script(__file__, "open_tab.js")
REFILL = "() => document.getElementById(`fill-${window.msnTab}`).click()"
PAGE_OPENS, PAGE_LOADED = script(__file__, "page_opens.js"), script(__file__, "page_loaded.js")
REVEAL = script(__file__, "reveal.js")
FORGET_VISIT = script(__file__, "forget_visit.js")
