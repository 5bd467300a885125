"""The executor's contract: one behaviour per test, on every start method where that can matter."""
