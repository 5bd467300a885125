"""How a worker's process starts."""
