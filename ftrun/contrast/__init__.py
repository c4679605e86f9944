"""Learning from two views of one picture: the views, the losses, the queue of keys, and what to watch."""
