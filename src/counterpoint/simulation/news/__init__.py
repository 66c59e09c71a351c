"""Simulated news sites, in MIND's and EB-NeRD's files."""
