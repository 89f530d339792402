"""What a job yields: published, listed, described, asked, shared, taken home."""
