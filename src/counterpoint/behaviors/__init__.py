"""Multi-behaviour recommendation: what users buy, helped by what they click, put into the cart, favour."""
