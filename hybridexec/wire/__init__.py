"""What both sides agree on: frames, payloads, the status page and the worker's start.

Nothing in this package knows the parent or the worker, and nothing in it does I/O of its own
accord but for the reads that :mod:`~hybridexec.wire.frames` is asked to do.
"""
