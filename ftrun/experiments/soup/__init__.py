"""Model soups: finished runs whose weights become one network's (Wortsman et al. 2022)."""
