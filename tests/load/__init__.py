"""Many visitors at once: `python -m tests.load` (see `__main__`)."""
