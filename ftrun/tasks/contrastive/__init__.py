"""Contrastive learning from two views of an image: views, losses, key encoder and signs of collapse."""
