"""Continuous batching of generation: what to run in each step, and what a request may ask for. Pure: no clock, no framework."""
