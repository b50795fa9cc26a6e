"""Explore: a map of the examples."""
