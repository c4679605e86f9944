"""Weights in fewer bits than those of training: frozen ones in bf16, and networks loaded in 4 or 8 bits."""
