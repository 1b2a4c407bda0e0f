"""Journeys as people would write them, one shape each: linear, branching, looping, and one that recovers from errors."""
