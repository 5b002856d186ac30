"""An engine whose import prints, and fails."""

print("an engine greets")  # noqa: T201
raise RuntimeError("it does not load")
