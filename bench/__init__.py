"""Measurements beside the peers, in one run: `make bench`. See README.md."""
