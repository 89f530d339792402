"""Start everything, look after a machine, back up and restore."""
