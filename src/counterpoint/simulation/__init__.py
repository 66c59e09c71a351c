"""Worlds whose truth is known, written in the formats that workloads read."""
