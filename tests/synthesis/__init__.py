"""Tests of made anomalies."""
