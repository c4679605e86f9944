"""Active learning: which rows of a file to label next."""
