"""Many yes/no labels per view: what a user who saw an item did with it."""
