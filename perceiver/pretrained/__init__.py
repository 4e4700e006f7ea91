"""Weights that exist: the published models, their names and their numbers."""
