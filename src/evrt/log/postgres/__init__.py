"""The log in a PostgreSQL schema: one writer connection per process, the head row as the lock between processes.

``address`` says where a log is · ``connect`` reaches the server and puts its errors into words · ``schema`` and
``roles`` are what stands in the database · ``making`` makes it there · ``writer``, ``committing`` and ``transaction``
write · ``reader`` and ``listening`` read · ``store`` puts them together. psycopg is imported when a log is opened.
"""
