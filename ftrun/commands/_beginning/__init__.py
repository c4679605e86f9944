"""A first experiment of one's own: what is asked about a file, and the YAML that is written for it."""
