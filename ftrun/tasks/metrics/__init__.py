"""What is measured: each metric's name, direction, unit and mathematics."""
