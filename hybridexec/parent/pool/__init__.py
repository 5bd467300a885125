"""Decisions about workers and calls: pure, without I/O, clock or threads."""
