"""Images as arrays: read, decoded, split, transformed."""
