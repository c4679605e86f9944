"""What can be learned, one kind per file; the file's name is the task's kind."""
