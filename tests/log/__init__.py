"""Tests of the log: one contract for every store, then what is SQLite's alone."""
