"""Tests of medad_plugins.diffusion."""
