"""Pictures as arrays: read, decoded, split, and made into what a network expects."""
