"""A cluster that is somewhere else: its jobs API, what travels there, what it can reach."""
