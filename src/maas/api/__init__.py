"""The dialects: each parses a request, asks the gateway, and renders the answer."""
