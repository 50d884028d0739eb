"""Tests of medad_plugins.methods."""
