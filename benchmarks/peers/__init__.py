"""Servers to compare with. What they run is in modules that import nothing of ours; `service` starts them."""
