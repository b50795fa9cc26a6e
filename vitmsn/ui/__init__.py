"""The demo: one file per tab, `build` assembles them, `state` remembers."""
