"""Ray Data streams: clean images in, degraded crops and restored files out. No torch."""
