"""From raw logs of views to the prepared store."""
