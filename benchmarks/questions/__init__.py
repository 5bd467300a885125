"""What is measured: one question in each module."""
