"""Masking: what is left when patches are hidden."""
