"""The workers: tasks that look at the queue, and a sweep that repairs."""
