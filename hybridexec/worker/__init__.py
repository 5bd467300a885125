"""The worker process: what every kind of worker has, and, in rooms of their own, the kinds.

Never imports the parent's half.
"""
