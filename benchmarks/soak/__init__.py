"""A soak: mixed traffic with faults for as long as one likes, and proof that nothing grows meanwhile."""
