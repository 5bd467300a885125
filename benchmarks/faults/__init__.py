"""The same faults, done to each contender: ``python -m benchmarks.faults``."""
