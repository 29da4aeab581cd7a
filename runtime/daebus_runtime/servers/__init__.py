"""Everything that serves: bus messages, HTTP, WebSockets, the scheduler and threads, the management port.

runner.py starts and stops each of them. They know the application only through its declarations.
"""
