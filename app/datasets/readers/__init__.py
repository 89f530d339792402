"""From a file's bytes to rows, or to the blocks of a document."""
