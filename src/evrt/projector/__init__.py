"""Keeps views of the log: projections folded into documents, which can be read, listed, rebuilt, watched, and read as
of any moment."""
