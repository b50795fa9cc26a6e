"""Few-shot: one's own classes from a few examples."""
