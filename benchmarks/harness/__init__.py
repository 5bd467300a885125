"""What runs questions and judges: it knows neither the questions nor who is asked."""
