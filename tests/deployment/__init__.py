"""What happens where a model is used."""
