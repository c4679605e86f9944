"""A run directory: its files, how it is found, locked and written, and what else is said of a run."""
