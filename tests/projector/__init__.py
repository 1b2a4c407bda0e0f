"""Views: kept by a projector, read, and read as of any moment."""
