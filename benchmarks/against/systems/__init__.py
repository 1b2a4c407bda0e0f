"""The workers: each does one measure with one system in a process of its own, and prints JSON."""
