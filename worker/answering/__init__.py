"""The parent of answering: who is next, which models are in memory, and where they compute.

Never torch: models stand in children (`worker/inference/`), or in a vLLM of the site.
"""
