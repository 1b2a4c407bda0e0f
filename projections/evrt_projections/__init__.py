"""Views of the log, one per file, written only against evrt's public names, as a user would write theirs.

A projection folds events into documents. It sees events and nothing else: no I/O, no clock, no randomness.
"""
