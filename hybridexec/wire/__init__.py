"""What both sides agree on: frames, payloads, the status page and the worker's start.

Nothing in this package knows the parent or the worker. It reads and writes what it is asked to, and
has no thread or loop of its own.
"""
