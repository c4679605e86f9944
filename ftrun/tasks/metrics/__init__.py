"""What is measured: one file per family, with its metrics (name, direction, unit) and their mathematics."""
