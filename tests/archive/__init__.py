"""Tests of what applies a bundle to an archive."""
