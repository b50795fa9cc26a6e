"""Classify: what is on a picture."""
