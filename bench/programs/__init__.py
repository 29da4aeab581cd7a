"""The programs of the measured processes. The two of a pair do the same work, with the same source where possible."""
