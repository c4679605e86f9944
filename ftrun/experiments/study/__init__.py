"""A comparison: what its runs will cost, and which learning rate each way of training gets."""
