"""Tests of medad_plugins.networks.backbones."""
