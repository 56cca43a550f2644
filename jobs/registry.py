"""The registry: versions of models, and the aliases that say which of them counts."""

import contextlib
from dataclasses import dataclass, field
from pathlib import Path

import mlflow.artifacts
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from jobs import place
from jobs.connection import connect, reachable
from jobs.errors import MissingModelError

CANDIDATE, CHAMPION = "candidate", "champion"
ABSENT = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
"""Codes with which MLflow says that a name, version or alias is not there."""


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


@dataclass(frozen=True)
class Registry:
    """The registered models of a tracking server or sqlite file."""

    uri: str = field(default_factory=place.tracking_uri)

    @property
    def client(self) -> MlflowClient:
        """Return a client."""
        return connect(self.uri)

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


def _version(found: ModelVersion) -> Version:
    return Version(found.name, int(found.version), str(found.run_id), dict(found.tags))
