"""What a job yields: published, listed, described, taken home."""
