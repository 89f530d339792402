"""Machines: which have joined, and the tokens with which others do."""
