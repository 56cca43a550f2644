"""Measuring a model: what with, on which images, how sure it is, and what is shown of it."""
