"""Tests of medad_plugins.networks.blocks."""
