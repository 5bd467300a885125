"""The I/O thread, its pipes and processes: the only room with threads and descriptors."""
