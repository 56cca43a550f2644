"""Runs as MLflow keeps them: values, numbers by step, pictures and files."""

import contextlib
import re
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import mlflow.artifacts
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from jobs import place
from jobs.connection import connect, reachable
from jobs.console import say
from jobs.errors import JobError, UnavailableError
from pipelines import storage

SHOWN_RUNS = 10
"""Runs that a message names."""
PICTURES = "pictures"
"""Folder of a run's pictures among its files."""
PARAMS_AT_ONCE = 100
"""Parameters that MLflow takes in one call."""
POINTS_AT_ONCE = 1000
"""Numbers that MLflow takes in one call."""
DIGEST_CHARS = 36
"""Characters that MLflow keeps of the digest of a dataset."""
RUN_TAG = "laformer.run"
"""Tag that ties a tracking run to the folder of its checkpoints."""
PARENT_TAG = "mlflow.parentRunId"
"""Tag by which MLflow's pages show a run below another."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """A training run as it was recorded."""

    id: str
    """Its id in MLflow."""
    name: str
    folder: str
    """Where its checkpoints are."""
    status: str
    """RUNNING, FINISHED, FAILED, or KILLED for a signal; RUNNING for ever after a SIGKILL."""
    started_s: float
    """Seconds since 1970, as all times here."""
    ended_s: float | None
    params: dict[str, str]
    metrics: dict[str, float]
    """The last of each number."""


@dataclass(frozen=True)
class Point:
    """A number of a run at a step."""

    name: str
    value: float
    time_ms: int
    """When it was found, in ms since 1970: a later one of the same step counts instead."""
    step: int


@dataclass(frozen=True)
class Tracker:
    """The runs of a tracking server or sqlite file."""

    uri: str = field(default_factory=place.tracking_uri, repr=False)  # it may hold a password

    @property
    def client(self) -> MlflowClient:
        """Return a client."""
        return connect(self.uri)

    def continue_run(
        self, experiment: str, run: str, params: dict[str, str], *, parent: str | None = None
    ) -> str:
        """Return the id of the tracking run of a training run, made at its first start.

        `run` is the folder of its checkpoints; `parent` the id of the run that it is a part of.
        """
        with reachable(self.uri):
            experiment_id = self._experiment(experiment)
            run = quote(run, safe=":/ ")  # MLflow's filters have no escape for an apostrophe
            found = self.client.search_runs([experiment_id], f"tags.`{RUN_TAG}` = '{run}'")
            if found:
                run_id, known = found[0].info.run_id, found[0].data.params
                self.client.set_terminated(run_id, "RUNNING")
            else:
                tags = {RUN_TAG: run} | ({PARENT_TAG: parent} if parent else {})
                name = run.rsplit("/", 1)[-1]
                created = self.client.create_run(experiment_id, tags=tags, run_name=name)
                run_id, known = created.info.run_id, {}
            # A driver that was killed at its start has left some of them out.
            named = [Param(key, value) for key, value in params.items() if key not in known]
            for first in range(0, len(named), PARAMS_AT_ONCE):
                self.client.log_batch(run_id, params=named[first : first + PARAMS_AT_ONCE])
            return str(run_id)

    def describe(self, run_id: str, tags: dict[str, str]) -> None:
        """Say of a run what may be another thing when it is continued: machines, versions."""
        with reachable(self.uri):
            self.client.log_batch(run_id, tags=[RunTag(key, str(tags[key])) for key in tags])

    def trained_on(self, run_id: str, digests: dict[str, str]) -> None:
        """Say which manifests a run trains on: their digests by uri. Twice is once."""
        context = [InputTag("mlflow.data.context", "training")]
        inputs = [
            DatasetInput(
                Dataset(uri.rsplit("/", 1)[-1], digest[:DIGEST_CHARS], "manifest", uri), context
            )
            for uri, digest in digests.items()
        ]
        with reachable(self.uri):
            self.client.log_inputs(run_id, inputs)

    def finish_run(self, run_id: str, *, failed: bool = False) -> None:
        """Mark a run as over. A server that is away hides nothing of how it ended."""
        self._end(run_id, "FAILED" if failed else "FINISHED")

    @contextlib.contextmanager
    def ending(self, run_id: str) -> Iterator[None]:
        """Mark a run as over when the body is: as killed where a signal ended it."""
        status = "FAILED"
        try:
            yield
            status = "FINISHED"
        except KeyboardInterrupt:
            status = "KILLED"
            raise
        finally:
            self._end(run_id, status)

    def _end(self, run_id: str, status: str) -> None:
        try:
            with reachable(self.uri):
                self.client.set_terminated(run_id, status)
        except UnavailableError as error:
            say(f"warning: the run stays open in MLflow: {error}")

    def metrics(self, run_id: str, metrics: dict[str, float], step: int = 0) -> None:
        """Record numbers of a run."""
        now_ms = int(time.time() * 1000)
        self.points(run_id, [Point(name, value, now_ms, step) for name, value in metrics.items()])

    def points(self, run_id: str, points: Iterable["Point"]) -> None:
        """Record numbers of any steps; the same point twice is once, whatever was lost between."""
        found = [Metric(p.name, p.value, p.time_ms, p.step) for p in points]
        with reachable(self.uri):
            for first in range(0, len(found), POINTS_AT_ONCE):
                self.client.log_batch(run_id, found[first : first + POINTS_AT_ONCE])

    def picture(self, run_id: str, step: int, name: str, png: bytes) -> None:
        """Record a picture of a step; it replaces one of the same step and name."""
        with reachable(self.uri), tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / f"step_{step:08d}.png"
            path.write_bytes(png)
            self.client.log_artifact(run_id, str(path), f"{PICTURES}/{name.replace('/', '_')}")

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

    def run(self, run_id: str) -> Run:
        """Return the run of an id. Raises JobError when there is none."""
        with reachable(self.uri):
            return _run(self.client.get_run(run_id))

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
