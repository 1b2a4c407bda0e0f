"""The Merkle tree over the log's leaves, its checkpoints and proofs. Reads the log, never the runtime."""
