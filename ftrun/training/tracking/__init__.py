"""Services that get what a run's directory has: a file for each, and what keeps it from failing the run."""
