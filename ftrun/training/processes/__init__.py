"""Several processes that train one run: how they were started, who leads, and how they end together."""
