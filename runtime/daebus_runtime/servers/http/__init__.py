"""HTTP: from the bytes of a connection to the handler of a route, and back."""
