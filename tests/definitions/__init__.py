"""Agents and systems as data."""
