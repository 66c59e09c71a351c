"""Metrics, floors, significance, tables and the report of a run."""
