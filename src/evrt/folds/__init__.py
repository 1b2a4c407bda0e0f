"""Pure folds the core itself needs: a run's journal and status, its messages, memory, digests."""
