"""What can be done beside running an experiment, one command per file; the file's name is the word."""
