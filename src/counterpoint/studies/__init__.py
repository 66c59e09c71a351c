"""Recipes trained several times: comparisons, ablations, searches."""
