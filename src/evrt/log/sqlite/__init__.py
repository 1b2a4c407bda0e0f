"""The log in one SQLite file: one writer thread per process, a file lock between processes, readers apart."""
