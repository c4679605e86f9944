"""Which process, of all machines that see a directory, makes what is in it."""
