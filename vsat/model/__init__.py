"""Models that learn, on torch: what needs them imports them from here, and nothing else in vsat loads torch."""
