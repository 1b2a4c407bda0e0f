"""Text from outside that wants to be obeyed, every way it can come in, and a model that obeys everything."""
