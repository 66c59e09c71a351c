"""What a run is: its recipe, its folder, what is read from it."""
