"""Tests of medad_plugins.networks.coders."""
