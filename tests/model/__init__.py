"""A model of claim, lease and append, small enough for every one of its states to be looked at."""
