"""What a cluster can see of the place that a job comes from: addresses yes, this disk no."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jobs import place
from jobs.errors import JobError

PLACES: dict[str, tuple[str, ...]] = {
    "prepare": ("photos", "lq", "tiles", "manifest"),
    "train": ("manifest", "init"),
    "tune": ("manifest", "init", "page"),
    "evaluate": ("manifest", "data", "model", "out"),
    "promote": (),
    "restore": ("source", "target", "model"),
}
"""Verbs that a cluster runs, and which of their values may be places; the others write here."""
MODELS = ("init", "model")
"""Values that are places only when they name a folder: otherwise they name a model."""
FORWARDED = (
    *("LAFORMER_STORE", "LAFORMER_SHARED_DISK", "LAFORMER_TRACEBACK", "MLFLOW_TRACKING_URI"),
    *("MLFLOW_S3_ENDPOINT_URL", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_REGION"),
    *("AWS_DEFAULT_REGION", "AWS_REQUEST_CHECKSUM_CALCULATION", "AWS_RESPONSE_CHECKSUM_VALIDATION"),
)
"""Variables that go along when they are set: where things are, never a secret."""
OWN = ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "LAFORMER_JOB", "LAFORMER_REVISION")
"""Variables that the cluster, or this command, sets itself."""


def check(words: tuple[str, ...], job: Any, environment: Mapping[str, str]) -> None:
    """Raise JobError for what would fail, or be lost, on another machine."""
    verb = words[0]
    if verb not in PLACES:
        raise JobError(
            f"{verb} works on this machine; a cluster is given one of: {', '.join(PLACES)}"
        )
    for word in words:
        if place.without_secret(word) != word:
            raise JobError(
                f"{place.without_secret(word)} is given with a password, which every log of the "
                "cluster would show; put it into a variable and name that with --env"
            )
    shared = environment.get("LAFORMER_SHARED_DISK") == "1"
    for name in ("LAFORMER_STORE", "MLFLOW_TRACKING_URI"):
        require_visible(name, environment.get(name), shared=shared)
    inner = getattr(job, "job", job)  # what a search trains
    for name in PLACES[verb]:
        values = getattr(job, name, getattr(inner, name, None))
        for value in values if isinstance(values, tuple) else (values,):
            if name not in MODELS or (value and Path(value).is_dir()):
                require_visible(name, value, shared=shared)


def require_visible(name: str, value: str | None, *, shared: bool) -> None:
    """Raise JobError for a place on this machine's disk that the cluster has no part in."""
    if not value or not is_local(value):
        return
    if not shared:
        raise JobError(
            f"{name} {value} is on the disk of this machine, where the cluster does not see it; "
            "use a bucket, and an MLflow server, or set LAFORMER_SHARED_DISK=1 if all its hosts "
            "see the same disk"
        )
    path = value.removeprefix("sqlite:///").removeprefix("file://")
    if not Path(path).is_absolute():
        raise JobError(
            f"{name} {value} is relative, but the cluster works in another folder; "
            f"write {Path(path).resolve()}"
        )


def is_local(uri: str) -> bool:
    """Tell whether a uri names a disk: sqlite, file://, or a path."""
    return uri.startswith(("sqlite:", "file:")) or not ("://" in uri or uri == "databricks")


def forwarded(named: tuple[str, ...], environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that go along, with their values.

    Raises JobError for a named one that is not set, and for a secret that nobody named.
    """
    values = {name: environment[name] for name in FORWARDED if environment.get(name)}
    for name, value in values.items():
        if name not in named and place.without_secret(value) != value:
            raise JobError(
                f"{name} {place.without_secret(value)} holds a password, which the cluster would "
                f"keep in the job's record; use MLFLOW_TRACKING_USERNAME and "
                f"MLFLOW_TRACKING_PASSWORD as secrets of the cluster, or say --env {name}"
            )
    for name in named:
        if name in OWN:
            raise JobError(f"env {name} is set by the cluster itself; leave it out")
        if name not in environment:
            raise JobError(f"env {name} is not set in this shell; set it, or leave it out")
        values[name] = environment[name]
    return values


def notes(values: Mapping[str, str]) -> list[str]:
    """Return what the user should know of the variables that go along; names, never values."""
    found = []
    if "LAFORMER_STORE" not in values:
        found.append("LAFORMER_STORE is not set here, so the cluster's own counts")
    for name, value in values.items():
        if re.match(r"https?://(localhost|127\.|\[::1\])", value):
            found.append(f"{name} names this machine, which is another one on the cluster's hosts")
    secret = [name for name in values if name not in FORWARDED]
    if secret:
        found.append(f"the cluster keeps the values of {', '.join(secret)} in the job's record")
    return found
