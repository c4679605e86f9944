"""Several data sets, one verdict: which way of training is better over all of them."""
