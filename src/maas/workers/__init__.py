"""Model processes: how they are started, fed, watched and ended."""
