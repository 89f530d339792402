"""Running Etude: start everything, look after a machine, back up and restore."""
