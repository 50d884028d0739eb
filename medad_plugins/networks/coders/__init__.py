"""Encoders, decoders and U-Nets."""
