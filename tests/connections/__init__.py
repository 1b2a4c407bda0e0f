"""Connections to a database that break: at the worst moment, at any moment, or without anybody noticing."""
