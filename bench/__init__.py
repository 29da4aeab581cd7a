"""Benchmarks against comparable programs in one run: `make bench`. See README.md."""
