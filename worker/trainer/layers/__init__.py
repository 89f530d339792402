"""Layers that compute the same as a model's own, faster or in less memory."""
