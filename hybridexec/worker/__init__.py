"""The worker process: patch first, then one hub with its runners, and a thread that attends to it.

The only home of gevent. Never imports the parent's half.
"""
