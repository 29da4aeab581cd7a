"""What lets the world in: the gunicorn worker, HTTP, WebSockets, the scheduler and threads, the management port.

Each is told by runner.py when to start and to stop, and knows the application only by what it declares.
"""
