"""From a file to examples: reading, mapping, building; versions.py keeps what became of each."""
