"""The trainer: one job's examples in, checkpoints and an adapter out."""
