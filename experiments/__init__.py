"""The runs behind the tables of docs/results.md and the README, as commands."""
