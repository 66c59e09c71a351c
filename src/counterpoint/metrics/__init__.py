"""Metrics, and what an evaluation says."""
