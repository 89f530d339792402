"""What a cpu worker does, each in a child under a lease."""
