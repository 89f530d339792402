"""The starting models on offer."""
