"""From a file to examples: read, map, build, check, change."""
