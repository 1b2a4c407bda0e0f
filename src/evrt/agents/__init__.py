"""Agents: what lets a model decide. Written on the context alone, the way a user's own code would be."""
