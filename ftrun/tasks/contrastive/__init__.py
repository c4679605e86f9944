"""Learning from two views of one image: the views, the losses, the key encoder, and signs of collapse."""
