"""`maas optimize`: the same model on other engines and settings, measured here, and the best of those that still answer right.

Every candidate is measured in model processes as the server starts them. What is published is a new version that names
its parent; the parent is left as it is.
"""
