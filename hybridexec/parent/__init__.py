"""The parent's half: the pool's decisions, the I/O thread around them, starting and ending."""
