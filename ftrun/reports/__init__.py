"""Runs read again from their directories: told, compared, tested and drawn."""
