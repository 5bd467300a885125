"""The kind of worker whose calls run in native threads: the lane "thread".

Nothing is patched here, and nothing of gevent is loaded.
"""
