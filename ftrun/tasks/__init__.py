"""The tasks, one kind per file; the name of the file is the kind."""
