"""Touching the world: models and tools. Nothing here knows of runs or of the log."""
