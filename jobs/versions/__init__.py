"""Versions of models: the registry, how one is packed, served, gated and traced."""
