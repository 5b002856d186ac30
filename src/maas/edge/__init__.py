"""The edge: where bytes from outside become requests, within limits, and answers leave in order.

A connection (`connection.py`) is a subclass of uvicorn's httptools protocol and gives uvicorn's ASGI application its
requests (`cycle.py`); what all connections share is in `edge.py`. Nothing here knows a model or a dialect: whether a
request is taken, and how an error is said, is asked of the API's door.
"""
