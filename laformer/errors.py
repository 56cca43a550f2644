"""The errors of this package that a user can act on: value, rule, next act."""


class ModelError(Exception):
    """Base of the family."""


class CheckpointError(ModelError):
    """A checkpoint folder that is missing, incomplete, damaged or of another model."""


class UnfinishedError(CheckpointError):
    """A checkpoint that was never written to its end: what a killed run leaves."""


class DiskFullError(CheckpointError):
    """A checkpoint that the disk has no room for."""


class TrainingError(ModelError):
    """A run that cannot go on."""


class StreamError(TrainingError):
    """Samples that were lost on their way to a worker: starting the workers again mends it."""


class LeavingError(ModelError):
    """Workers that have saved and end, because a host of theirs is about to be taken away."""
