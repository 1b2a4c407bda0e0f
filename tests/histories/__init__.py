"""Golden histories: real logs, kept as they were written. They are added to and never edited."""
