"""`maas bench`: loads a server with inference requests and says how it bore them.

A client that costs much measures itself, so requests are bytes that were made beforehand, sent and counted by one small
protocol (`traffic`) without an HTTP library. `sweep` goes through the points of a measurement; what is asked comes from `inputs`
and `dialects`, what the server says of itself from `server` and `meters`. The package knows types, errors and the
client, and nothing of the server's own code: whatever speaks HTTP can be loaded.
"""
