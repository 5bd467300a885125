"""One module at a time: those of hybridexec/parent/pool/ are tested in pool/, and so on; those at
the package's top, here."""
