"""Workers and their devices, and what Prometheus is told of them."""
