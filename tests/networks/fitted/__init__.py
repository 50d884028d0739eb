"""Tests of medad_plugins.networks.fitted."""
