"""WebSockets: frames, connections, and the JSON protocol of services."""
