"""The runs behind the tables in the README, as commands."""
