"""What is fitted to features and not trained."""
