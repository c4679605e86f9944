"""A finished run's network in the formats of other programs, proved before it is kept."""
