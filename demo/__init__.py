"""A tour of the platform on one machine: `python -m demo`, or `make demo`."""
