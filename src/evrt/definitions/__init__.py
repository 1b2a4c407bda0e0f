"""Agents and systems as data: defined and revised on the log, and made into what a run can execute."""
