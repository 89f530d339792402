"""What a cpu worker does, each piece in a child under a lease."""
