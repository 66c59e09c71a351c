"""Simulated short-video logs with several labels a view."""
