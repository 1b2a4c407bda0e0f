"""Executing runs: the context that code works through, the journal it writes, and its replay."""
