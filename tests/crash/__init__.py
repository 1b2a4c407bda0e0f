"""Runs survive: killed at every boundary, at random moments, frozen and overtaken, they end as if nothing had been."""
