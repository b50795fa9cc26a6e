"""Masking: what the model still sees when patches are hidden."""
