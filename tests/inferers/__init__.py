"""Tests of medad_plugins.inferers."""
