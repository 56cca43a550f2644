"""MLflow: runs, numbers, pictures and versions of models. The only file that imports it."""

import contextlib
import logging
import os
import queue
import re
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import mlflow.artifacts
import numpy as np
from mlflow.entities import Metric, Param
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from jobs import place
from jobs.errors import JobError, MissingModelError
from pipelines import storage

CANDIDATE, CHAMPION = "candidate", "champion"
ABSENT = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
"""Codes with which MLflow says that a name, version or alias is not there."""
CLOSE_S = 60.0
"""Longest wait at the end of a run for numbers that tracking has not taken yet."""
SHOWN_RUNS = 10
"""Runs that a message names."""
PICTURES = "pictures"
"""Folder of a run's pictures among its files."""
PARAMS_AT_ONCE = 100
"""Parameters that MLflow takes in one call."""
RUN_TAG = "laformer.run"
"""Tag that ties a tracking run to the folder of its checkpoints."""

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Version:
    """A registered version of a model."""

    name: str
    """Name in the registry."""
    number: int
    """Its version, counted from 1."""
    run_id: str
    """The tracking run that made it."""
    tags: dict[str, str]
    """What is known of it: task, scores, digests."""

    def __str__(self) -> str:
        """Return the name under which it can be asked for again."""
        return f"{self.name}/{self.number}"


@dataclass(frozen=True, kw_only=True)
class Run:
    """A training run as it was recorded."""

    id: str
    """Its id in MLflow."""
    name: str
    folder: str
    """Where its checkpoints are."""
    status: str
    """RUNNING, FINISHED or FAILED; a run whose driver was killed is RUNNING for ever."""
    started_s: float
    """Seconds since 1970, as all times here."""
    ended_s: float | None
    params: dict[str, str]
    metrics: dict[str, float]
    """The last of each number."""


@dataclass(frozen=True)
class Tracker:
    """A tracking server or sqlite file."""

    uri: str = field(default_factory=place.tracking_uri, repr=False)  # it may hold a password

    @property
    def client(self) -> MlflowClient:
        """Return a client; making one costs nothing, the first call opens the connection."""
        quiet()
        # Not mlflow.set_tracking_uri: it would change the environment of this process.
        return MlflowClient(self.uri, self.uri)

    def continue_run(self, experiment: str, run: str, params: dict[str, str]) -> str:
        """Return the id of the tracking run of a training run, made at its first start."""
        with reachable(self.uri):
            experiment_id = self._experiment(experiment)
            run = quote(run, safe=":/ ")  # MLflow's filters have no escape for an apostrophe
            found = self.client.search_runs([experiment_id], f"tags.`{RUN_TAG}` = '{run}'")
            if found:
                self.client.set_terminated(found[0].info.run_id, "RUNNING")
                return str(found[0].info.run_id)
            name = run.rsplit("/", 1)[-1]
            created = self.client.create_run(experiment_id, tags={RUN_TAG: run}, run_name=name)
            named = [Param(key, value) for key, value in params.items()]
            for first in range(0, len(named), PARAMS_AT_ONCE):
                some = named[first : first + PARAMS_AT_ONCE]
                self.client.log_batch(created.info.run_id, params=some)
            return str(created.info.run_id)

    def finish_run(self, run_id: str, *, failed: bool = False) -> None:
        """Mark a run as over."""
        with reachable(self.uri):
            self.client.set_terminated(run_id, "FAILED" if failed else "FINISHED")

    def metrics(self, run_id: str, metrics: dict[str, float], step: int = 0) -> None:
        """Record numbers of a run."""
        now = int(time.time() * 1000)
        with reachable(self.uri):
            self.client.log_batch(
                run_id, [Metric(name, value, now, step) for name, value in metrics.items()]
            )

    def history(self, run_id: str, metric: str) -> list[tuple[int, float]]:
        """Return a metric by step; the last value counts where a step was logged twice."""
        with reachable(self.uri):
            points = self.client.get_metric_history(run_id, metric)
        latest = {p.step: p.value for p in sorted(points, key=lambda p: p.timestamp)}
        return sorted(latest.items())

    def times_s(self, run_id: str, metric: str) -> list[float]:
        """Return when a number was recorded, every time, in seconds since 1970."""
        with reachable(self.uri):
            return [p.timestamp / 1000 for p in self.client.get_metric_history(run_id, metric)]

    def find_run(self, run: str) -> Run:
        """Return the run of that name in this store, or else anywhere, or of that id.

        Raises JobError naming the last runs when there is none.
        """
        with reachable(self.uri):
            known = [experiment.experiment_id for experiment in self.client.search_experiments()]
            found = []
            for value in (quote(place.run_folder(run), safe=":/ "), quote(run, safe=": ")):
                column = f"tags.`{RUN_TAG}`" if "/" in value else "attributes.run_name"
                found += self.client.search_runs(known, f"{column} = '{value}'", max_results=1)
            if not found and re.fullmatch("[0-9a-f]{32}", run):
                with contextlib.suppress(MlflowException):
                    found = [self.client.get_run(run)]
            if not found:
                last = self.client.search_runs(known, max_results=SHOWN_RUNS)
                names = ", ".join(unquote(each.info.run_name) for each in last)
                raise JobError(
                    f"no run {run!r} in {place.without_secret(self.uri)}; "
                    f"the last are: {names or 'none, train one with: laformer train demo'}"
                )
        return _run(found[0])

    def pictures(self, run_id: str) -> dict[str, dict[int, str]]:
        """Return the paths of the pictures of a run by the photo's name and by step."""
        with reachable(self.uri):
            photos = self.client.list_artifacts(run_id, PICTURES)
            return {
                photo.path.rsplit("/", 1)[-1]: {
                    int(match[1]): file.path
                    for file in self.client.list_artifacts(run_id, photo.path)
                    if (match := re.search(r"step_(\d+)\.png$", file.path))
                }
                for photo in photos
            }

    def artifact(self, run_id: str, path: str) -> bytes:
        """Return the bytes of a file kept with a run."""
        with reachable(self.uri), tempfile.TemporaryDirectory() as scratch:
            local = mlflow.artifacts.download_artifacts(
                run_id=run_id, artifact_path=path, dst_path=scratch, tracking_uri=self.uri
            )
            return Path(local).read_bytes()

    def file(self, run_id: str, path: Path) -> None:
        """Keep a file with a run."""
        with reachable(self.uri):
            self.client.log_artifact(run_id, str(path))

    def register(self, name: str, folder: Path, run_id: str, tags: dict[str, str]) -> Version:
        """Register a released checkpoint folder as a version.

        The same weights are registered once: a second call returns the first version.
        """
        with reachable(self.uri):
            with contextlib.suppress(MlflowException):
                self.client.create_registered_model(name)
            known = [
                version
                for version in self.client.search_model_versions(f"name = '{name}'")
                if version.tags.get("sha256") == tags["sha256"]
            ]
            if not known:
                # A folder of its own: a run trained anew must not change an earlier version.
                path = f"model/{tags['sha256'][:16]}"
                self.client.log_artifacts(run_id, str(folder), path)
                source = f"{self.client.get_run(run_id).info.artifact_uri}/{path}"
                known = [self.client.create_model_version(name, source, run_id=run_id, tags=tags)]
            return _version(known[0])

    def resolve(self, model: str) -> Version:
        """Return the version that name@alias or name/version means now.

        MLflow's own `models:/` may stand before it. Raises MissingModelError naming what is
        registered when there is no such model.
        """
        model = model.removeprefix("models:/")
        with reachable(self.uri):
            try:
                if "@" in model:
                    found = self.client.get_model_version_by_alias(*model.split("@", 1))
                else:
                    found = self.client.get_model_version(*model.split("/", 1))
            except (MlflowException, TypeError) as error:
                if getattr(error, "error_code", ABSENT[0]) not in ABSENT:
                    raise
                names = [m.name for m in self.client.search_registered_models()]
                raise MissingModelError(
                    f"no model {model!r} in {place.without_secret(self.uri)}; registered are: "
                    f"{', '.join(names) or 'none, train one with: laformer train demo'}"
                ) from error
        return _version(found)

    def alias(self, name: str, alias: str) -> Version | None:
        """Return the version behind an alias, or None if the registry says there is none."""
        try:
            return self.resolve(f"{name}@{alias}")
        except MissingModelError:
            return None

    def champions(self) -> list[Version]:
        """Return the champion of every model that has one."""
        with reachable(self.uri):
            models = self.client.search_registered_models()
        found = [self.alias(m.name, CHAMPION) for m in models if CHAMPION in m.aliases]
        return [version for version in found if version is not None]

    def nominate(self, version: Version) -> None:
        """Give a version the alias candidate."""
        with reachable(self.uri):
            self.client.set_registered_model_alias(version.name, CANDIDATE, str(version.number))

    def promote(self, version: Version) -> None:
        """Give a version the alias champion."""
        with reachable(self.uri):
            self.client.set_registered_model_alias(version.name, CHAMPION, str(version.number))

    def tag(self, version: Version, tags: dict[str, str]) -> None:
        """Add what was found out about a version."""
        with reachable(self.uri):
            for key, value in tags.items():
                self.client.set_model_version_tag(version.name, str(version.number), key, value)

    def download(self, version: Version, target: Path) -> Path:
        """Fetch the checkpoint folder of a version."""
        with reachable(self.uri):
            source = self.client.get_model_version_download_uri(version.name, str(version.number))
            return Path(
                mlflow.artifacts.download_artifacts(
                    source, dst_path=str(target), tracking_uri=self.uri
                )
            )

    def _experiment(self, name: str) -> str:
        found = self.client.get_experiment_by_name(name)
        if found is not None:
            return str(found.experiment_id)
        # A tracking server chooses its own artifact store; a sqlite file has none.
        location = None
        if self.uri.startswith("sqlite"):
            location = storage.join(place.store(), "artifacts", name)
        # Without the tag MLflow's pages show an experiment as one on prompts.
        tags = {"mlflow.experimentKind": "custom_model_development"}
        return str(self.client.create_experiment(name, artifact_location=location, tags=tags))


@dataclass(frozen=True)
class MlflowObserver:
    """Makes the observer of a worker: a value that can be pickled."""

    uri: str = field(repr=False)
    run_id: str

    def __call__(self) -> "RunRecorder":
        """Connect, inside the worker."""
        return RunRecorder(self.uri, self.run_id)


class RunRecorder:
    """Records a run from a thread of its own: tracking never holds up training."""

    def __init__(self, uri: str, run_id: str) -> None:
        self.run_id = run_id
        self.lost = 0
        self.client = Tracker(uri).client
        self.queue: queue.Queue[tuple[str, tuple[Any, ...]] | None] = queue.Queue()
        self.thread = threading.Thread(target=self._drain, name="tracking", daemon=True)
        self.thread.start()

    def log(self, step: int, metrics: dict[str, float]) -> None:
        """Record numbers of a step."""
        now = int(time.time() * 1000)
        batch = [Metric(name, value, now, step) for name, value in metrics.items()]
        self.queue.put(("log_batch", (self.run_id, batch)))

    def picture(self, step: int, name: str, pixels: Array) -> None:
        """Record a picture (H, W, 3) uint8."""
        path = f"{PICTURES}/{name.replace('/', '_')}/step_{step:08d}.png"
        self.queue.put(("log_image", (self.run_id, pixels, path)))

    def close(self) -> None:
        """Wait until everything is recorded, but not for a server that is away."""
        self.queue.put(None)
        self.thread.join(CLOSE_S)
        if self.thread.is_alive():
            logging.getLogger(__name__).error("MLflow has not taken the last of the numbers")

    def _drain(self) -> None:
        while (item := self.queue.get()) is not None:
            verb, arguments = item
            try:
                getattr(self.client, verb)(*arguments)
            except Exception as error:  # noqa: BLE001 - away; training goes on without its numbers
                self.lost += 1
                # Not with its traceback: MLflow names the address with its password.
                text = place.without_secret(str(error))
                logging.getLogger(__name__).error("MLflow did not take %s: %s", verb, text)  # noqa: TRY400


@contextlib.contextmanager
def reachable(uri: str) -> Iterator[None]:
    """Turn what MLflow raises into one message: it is away, refuses, or says why not."""
    shown = place.without_secret(uri)
    try:
        yield
    except MlflowException as error:
        text = place.without_secret(str(error).splitlines()[0])
        if any(word in text for word in ("Max retries", "Connection", "timed out", "locked")):
            message = (
                f"MLflow at {shown} cannot be reached; start it or unset MLFLOW_TRACKING_URI to "
                "use a local sqlite file"
            )
        elif any(word in text for word in ("401", "403", "Unauthorized", "PERMISSION_DENIED")):
            message = (
                f"MLflow at {shown} refuses these credentials; check MLFLOW_TRACKING_USERNAME and "
                "MLFLOW_TRACKING_PASSWORD"
            )
        else:
            message = f"MLflow at {shown} says: {text}; check MLFLOW_TRACKING_URI"
        raise JobError(message) from error


def quiet() -> None:
    """Keep migrations and download bars out of the terminal, and waits for a dead server short."""
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")  # 14 s instead of 4 minutes
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)


def _run(found: Any) -> Run:
    """Return what the pages of this project need of MLflow's run."""
    info, data = found.info, found.data
    return Run(
        id=info.run_id,
        name=unquote(info.run_name),
        folder=unquote(data.tags.get(RUN_TAG, "")),
        status=info.status,
        started_s=info.start_time / 1000,
        ended_s=info.end_time / 1000 if info.end_time else None,
        params=dict(data.params),
        metrics=dict(data.metrics),
    )


def _version(found: ModelVersion) -> Version:
    return Version(found.name, int(found.version), str(found.run_id), dict(found.tags))
