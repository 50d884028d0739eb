"""Tests of synthetic anomalies."""
