"""One file for each way into the service."""
