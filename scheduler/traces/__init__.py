"""Recorded work and machines in the formats that others publish, read row by row into arrays."""
