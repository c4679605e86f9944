"""The gradient of a step: micro-batches, graphs, compiled and recomputed layers."""
