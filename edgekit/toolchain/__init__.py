"""Tools run as processes: their pinned environments, their limits, and calls across the border."""
