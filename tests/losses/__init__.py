"""Tests of medad_plugins.losses."""
