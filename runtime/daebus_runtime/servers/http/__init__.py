"""HTTP: from the bytes of one connection to the handler of a route, and back."""
