"""Attention: where the model looks."""
