"""What running, resuming and replaying a run does."""
