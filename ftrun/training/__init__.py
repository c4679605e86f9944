"""The training loop: steps and their gradients, evaluation, checkpoints, interruption and resumption."""
