"""The errors of the jobs that a user can act on: value, rule, next act."""


class JobError(Exception):
    """A job that cannot start or did not reach its end."""


class MissingModelError(JobError):
    """A model, version or alias that the registry answers it does not have."""


class UnavailableError(JobError):
    """A service that does not do now what it may do later: it is away, or refuses the user."""
