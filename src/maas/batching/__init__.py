"""Requests into batches: a pure policy, and the one owner of each queue that applies it."""
