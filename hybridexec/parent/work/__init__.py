"""What a call is while it is on its way; every room above may use it."""
