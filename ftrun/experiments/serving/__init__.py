"""A finished run's model behind HTTP: requests to batches, batches to the answers of `ftrun predict`."""
