"""Hugging Face `transformers`: its model classes, unmodified, run in steps over a cache of ours.

A step takes tokens of many sequences as one row without padding; only attention knows which token is whose. Everything here
lives in a model process.
"""
