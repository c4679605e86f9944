"""What chance allows to say: intervals, tests, power, curves; simulated in scripts/bench/trust.py."""
