"""The way to MLflow, a server or a sqlite file: a client, and what it raises as one family."""

import contextlib
import logging
import os
from collections.abc import Iterator

from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from jobs import place
from jobs.errors import JobError, UnavailableError

AWAY = ("Max retries", "Connection", "timed out", "locked")
"""Words of a message that says that nobody answers, or not now."""
REFUSED = ("401", "403", "Unauthorized", "PERMISSION_DENIED")
"""Words of a message that says that the user may not."""
REJECTED = (
    "INVALID_PARAMETER_VALUE",
    "RESOURCE_DOES_NOT_EXIST",
    "RESOURCE_ALREADY_EXISTS",
    "BAD_REQUEST",
    "MALFORMED_REQUEST",
    "INVALID_STATE",
)
"""Codes of what MLflow understood and will never take."""


def connect(uri: str) -> MlflowClient:
    """Return a client; making one costs nothing, the first call opens the connection."""
    quiet()
    # Not mlflow.set_tracking_uri: it would change the environment of this process.
    return MlflowClient(uri, uri)


@contextlib.contextmanager
def reachable(uri: str) -> Iterator[None]:
    """Turn what MLflow raises into one message: it is away, refuses, or says why not.

    What may go well at another time is an UnavailableError.
    """
    shown = place.without_secret(uri)
    try:
        yield
    except MlflowException as error:
        text = place.without_secret(str(error).splitlines()[0])
        if any(word in text for word in AWAY):
            raise UnavailableError(
                f"MLflow at {shown} cannot be reached; start it or unset MLFLOW_TRACKING_URI to "
                "use a local sqlite file"
            ) from error
        if any(word in text for word in REFUSED):
            raise UnavailableError(
                f"MLflow at {shown} refuses these credentials; check MLFLOW_TRACKING_USERNAME and "
                "MLFLOW_TRACKING_PASSWORD"
            ) from error
        kind = JobError if error.error_code in REJECTED else UnavailableError
        raise kind(f"MLflow at {shown} says: {text}; check MLFLOW_TRACKING_URI") from error


def quiet() -> None:
    """Keep migrations and download bars out of the terminal, and waits for a dead server short."""
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")  # 14 s instead of 4 minutes
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
