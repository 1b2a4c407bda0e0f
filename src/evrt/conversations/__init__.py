"""Conversations from outside: read, begun, titled, given files, forked, edited, and forgotten with everything in them."""
