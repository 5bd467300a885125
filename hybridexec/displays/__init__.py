"""What ``progress=`` shows: a thread that looks at counts now and then, and bars, lines and
callables that it passes them to."""
