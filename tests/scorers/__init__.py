"""Tests of medad_plugins.scorers."""
