"""The worker whose calls are greenlets: patched first, its main thread is a hub with its runners.

The only home of gevent.
"""
