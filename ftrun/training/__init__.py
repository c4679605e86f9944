"""The loop: a step, its gradient, evaluation, checkpoints, and how a run ends and goes on."""
