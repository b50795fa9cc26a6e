"""Few-shot: your own classes from a few examples."""
