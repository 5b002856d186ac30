"""gRPC: the Open Inference Protocol with what clients use beyond it, its health and its reflection.

Nothing here is imported unless the port is on: the library takes its share of memory and of the start.
"""
