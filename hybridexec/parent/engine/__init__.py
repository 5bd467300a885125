"""The I/O thread and what it handles: pipes, processes, events and outcomes."""
