"""Reading news logs of any format into one prepared store."""
