"""Learn: the method step by step, and a network that trains."""
