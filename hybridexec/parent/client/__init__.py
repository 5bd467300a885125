"""What callers' threads hold and do: they submit, wait and iterate."""
