"""Round trips with transformers, in environments of their own: `make compat`."""
