"""What runs questions and judges: it knows none of them, and of the contenders ours only."""
