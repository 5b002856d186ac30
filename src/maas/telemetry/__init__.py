"""What operators see: metrics and logs. A leaf: it knows types, and is told the rest."""
