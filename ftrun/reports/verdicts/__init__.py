"""What follows from a comparison, in sentences."""
