"""Exports: an adapter, and its model, in the forms that other programs read."""
