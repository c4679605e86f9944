"""Low-rank updates after training: merged, composed, weighed and compared."""
