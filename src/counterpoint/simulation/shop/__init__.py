"""Simulated shops: clicks, favourites, carts and buys."""
