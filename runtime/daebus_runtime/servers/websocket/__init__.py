"""WebSockets: frames and connections, and the JSON protocol that services speak over them."""
