"""A network in stages with a head: found, loaded, resized, saved and loaded again."""
