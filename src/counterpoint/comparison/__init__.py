"""What a comparison of runs found, and how far it can be trusted."""
