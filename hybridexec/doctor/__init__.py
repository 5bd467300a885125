"""``hybridexec doctor``: says what is wrong with a program before it hurts.

It reads the program and never runs it.
"""
