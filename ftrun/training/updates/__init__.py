"""How weights move beside a plain step: other optimizers and what they keep, rates by pattern, averages."""
