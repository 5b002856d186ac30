"""What can be done with arrays without knowing a protocol, a queue or an engine."""
