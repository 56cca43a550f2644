"""What a run is: a name, a folder with its checkpoints, and what it trains, which never changes."""

import json
from typing import Any

from jobs import place, recipes
from jobs.checkpoints import StoredShelf
from jobs.config import TrainJob
from jobs.errors import JobError
from jobs.training import initial
from pipelines import storage

JOB_FILE, SAMPLES_FILE = "job.json", "samples.json"
"""Beside the checkpoints of a run: what it trains, and on which samples."""
CHANGES_NOTHING = ("workers", "hang_s", "train.accumulate", "train.patience")
"""Values of a job that may be others when a run is resumed: steps depend on them by rounding."""


def run_name(job: TrainJob) -> str:
    """Return the name under which a run is found again."""
    return job.name or job.task


def shelf_of(job: TrainJob) -> StoredShelf:
    """Return the checkpoints of a run."""
    return StoredShelf(place.run_folder(run_name(job)))


def same_run(
    name: str, job: str, samples: dict[str, object], origin: initial.Origin | None
) -> None:
    """Keep what a run is in its folder, and refuse to continue it as something else.

    `job.json` there runs again with `laformer train --job`. Raises JobError naming the values
    that differ.
    """
    folder = place.run_folder(name)
    documents = {JOB_FILE: job, SAMPLES_FILE: json.dumps(samples, indent=2, sort_keys=True) + "\n"}
    if origin is not None:
        documents[initial.INIT_FILE] = json.dumps(origin.facts, indent=2) + "\n"
    for file, text in documents.items():
        uri = storage.join(folder, file)
        if not storage.exists(uri):
            storage.put(uri, text.encode())
            continue
        stored = storage.get(uri).decode()
        if file == JOB_FILE:
            # A value that a run of an earlier version had no name for is the default of this one.
            stored = recipes.to_json(recipes.from_json(stored))
        earlier, present = flatten(json.loads(stored)), flatten(json.loads(text))
        differing = [
            f"{key} was {earlier.get(key)}, is {present.get(key)}"
            for key in sorted(earlier.keys() | present.keys())
            if earlier.get(key) != present.get(key) and key not in CHANGES_NOTHING
        ]
        if differing:
            raise JobError(
                f"the run {name} was started with other values ({'; '.join(differing)}); "
                "give this one a name of its own with --name, or the same values to resume"
            )


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """Turn nested values into dotted names and strings."""
    flat: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = str(value)
    return flat
