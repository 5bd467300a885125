"""The asynchronous lane: a process in which asyncio is not patched, and runs calls as tasks.

Only :mod:`.lane` is for the shared half; see :mod:`hybridexec.worker.lane`.
"""
