"""Text of models while it streams, beside the log: any process can read it, and none of it is kept."""
