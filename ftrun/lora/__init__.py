"""Low-rank updates after training: merged, added up, weighed against each other."""
