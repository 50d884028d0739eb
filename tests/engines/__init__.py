"""Tests of medad_plugins.engines."""
