"""What the measured processes run. Each pair does the same work with the same text as far as the two sides allow."""
