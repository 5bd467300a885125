"""The worker process: patch first, then one hub with its runners and two native pipe threads.

The only home of gevent. Never imports the parent's half.
"""
