"""Data larger than memory: read in shards, each once, and kept on the disk as what is looked at again."""
