"""Tests of medad_plugins.handlers."""
