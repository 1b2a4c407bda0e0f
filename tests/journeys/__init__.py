"""Journeys, from their parts to whole conversations that are killed in the middle."""
