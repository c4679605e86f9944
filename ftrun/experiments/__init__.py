"""From a command line to finished runs: one experiment, a sequence, pre-training, a sweep."""
