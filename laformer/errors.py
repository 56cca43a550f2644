"""The errors of this package that a user can act on: value, rule, next act."""


class ModelError(Exception):
    """Base of the family."""


class CheckpointError(ModelError):
    """A checkpoint folder that is missing, incomplete, damaged or of another model."""


class TrainingError(ModelError):
    """A run that cannot go on."""
