"""The app: what a program registers, starts, looks up and closes."""
