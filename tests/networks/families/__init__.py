"""Tests of medad_plugins.networks.families."""
