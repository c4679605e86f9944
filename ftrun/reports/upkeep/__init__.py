"""The runs on the disk: listed, watched while they train, and cleared of what can go."""
