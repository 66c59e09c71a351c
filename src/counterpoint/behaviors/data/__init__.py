"""Logs of behaviours: readers, filters, splits, the prepared store."""
