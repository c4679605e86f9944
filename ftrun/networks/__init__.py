"""Where checkpoints lie, how they are loaded, and small networks and layers that transformers lacks."""
