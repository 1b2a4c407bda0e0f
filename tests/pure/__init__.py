"""What is pure: events and their bytes, folds, digests, redaction."""
