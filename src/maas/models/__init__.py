"""Model versions: on disk, sealed and immutable; and live, each with its batcher and its pool."""
