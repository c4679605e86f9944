"""Ways to fine-tune, one per file; the file's name is the strategy's name."""
