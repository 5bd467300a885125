"""Who is asked, and the functions that their workers run."""
