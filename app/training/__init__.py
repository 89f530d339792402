"""What web, planner and trainer agree on; all that the trainer imports of app."""
