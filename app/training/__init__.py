"""What web, planner and trainer agree on: all of `app` that the trainer may import."""
