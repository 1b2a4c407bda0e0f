"""Events of applications that are written with the eventsourcing library and kept in a log of evrt.

What is here knows the library and no store. It is imported by a store's persistence module, and nothing
that opens a log imports that: the library takes longer to load than a log to open.
"""
