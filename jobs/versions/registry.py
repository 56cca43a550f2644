"""The registry: versions of models, and the aliases that say which of them counts."""

import contextlib
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import mlflow.artifacts
from mlflow.entities.model_registry import ModelVersion, RegisteredModel
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from jobs import place
from jobs.connection import connect, reachable
from jobs.errors import MissingModelError
from laformer import checkpoint

CANDIDATE, CHAMPION = "candidate", "champion"
PREVIOUS = "previous"
"""Alias of the champion before this one."""
ROLLED_BACK = "rolled_back"
"""Tag of a version that was champion and had to go: "true", or "false" once it is again."""
ABSENT = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
"""Codes with which MLflow says that a name, version or alias is not there."""
RELEASED = "artifacts/model"
"""Folder of the checkpoint among the files of a version."""
SIZE = "num_bytes"
"""Tag of a version: bytes of its weights."""


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
class Listed:
    """A version as a list of versions shows it."""

    version: Version
    aliases: tuple[str, ...]
    """Names that mean this version now."""
    created_s: float
    """When it was registered, in seconds since 1970."""


@dataclass(frozen=True)
class Registry:
    """The registered models of a tracking server or sqlite file."""

    uri: str = field(default_factory=place.tracking_uri)

    @property
    def client(self) -> MlflowClient:
        """Return a client."""
        return connect(self.uri)

    def register(self, name: str, folder: Path, run_id: str, tags: dict[str, str]) -> Version:
        """Register a released checkpoint folder as a version that MLflow loads by itself.

        The same weights are registered once: a second call returns the first version.
        """
        from jobs.versions.packaging import package  # noqa: PLC0415 - slow to import, and only for this

        with reachable(self.uri):
            with contextlib.suppress(MlflowException):
                self.client.create_registered_model(name)
            known = [
                version
                for version in self._versions(name)
                if version.tags.get("sha256") == tags["sha256"]
            ]
            if not known:
                # A folder of its own: a run trained anew must not change an earlier version.
                path = f"model/{tags['sha256'][:16]}"
                with tempfile.TemporaryDirectory() as scratch:
                    package(folder, Path(scratch) / "packaged")
                    self.client.log_artifacts(run_id, str(Path(scratch) / "packaged"), path)
                source = f"{self.client.get_run(run_id).info.artifact_uri}/{path}"
                sized = tags | {SIZE: str(checkpoint.weights_of(folder).stat().st_size)}
                known = [self.client.create_model_version(name, source, run_id=run_id, tags=sized)]
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
                names = [m.name for m in self._pages(self.client.search_registered_models)]
                raise MissingModelError(self._missing(model, names)) from error
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
            models = self._pages(self.client.search_registered_models)
        found = [self.alias(m.name, CHAMPION) for m in models if CHAMPION in m.aliases]
        return [version for version in found if version is not None]

    def versions(self, name: str | None = None) -> list[Listed]:
        """Return every version of a model or of all, by name, the newest first.

        Raises MissingModelError naming what is registered when there is no such model.
        """
        with reachable(self.uri):
            models = {m.name: m for m in self._pages(self.client.search_registered_models)}
            if name is not None and name not in models:
                raise MissingModelError(self._missing(name, list(models)))
            return [
                Listed(_version(found), _aliases(model, found), found.creation_timestamp / 1000)
                for model in (models[n] for n in sorted(models) if name in (None, n))
                for found in sorted(self._versions(model.name), key=lambda v: -int(v.version))
            ]

    def nominate(self, version: Version) -> None:
        """Give a version the alias candidate."""
        with reachable(self.uri):
            self.client.set_registered_model_alias(version.name, CANDIDATE, str(version.number))

    def promote(self, version: Version) -> None:
        """Give a version the alias champion, and the present champion the alias previous."""
        champion = self.alias(version.name, CHAMPION)
        if champion is not None and champion.number == version.number:
            return
        with reachable(self.uri):
            if champion is not None:
                number = str(champion.number)
                self.client.set_registered_model_alias(version.name, PREVIOUS, number)
            self.client.set_registered_model_alias(version.name, CHAMPION, str(version.number))
        if version.tags.get(ROLLED_BACK) == "true":
            self.tag(version, {ROLLED_BACK: "false"})

    def roll_back(self, name: str) -> tuple[Version, Version]:
        """Return the champion that has to go and the previous one, which is the champion again.

        They are the same when that was done before. Raises MissingModelError when there is no
        champion, or none before it.
        """
        champion = self.resolve(f"{name}@{CHAMPION}")
        previous = self.alias(name, PREVIOUS)
        if previous is None:
            raise MissingModelError(
                f"{champion} is the first champion of {name}, there is none to return to; "
                "promote another version, which is the candidate then"
            )
        if previous.number != champion.number:
            self.tag(champion, {ROLLED_BACK: "true"})
            with reachable(self.uri):
                self.client.set_registered_model_alias(name, CHAMPION, str(previous.number))
        return champion, previous

    def tag(self, version: Version, tags: dict[str, str]) -> None:
        """Add what was found out about a version."""
        with reachable(self.uri):
            for key, value in tags.items():
                self.client.set_model_version_tag(version.name, str(version.number), key, value)

    def fetch(self, version: Version, target: Path) -> Path:
        """Fetch all that is kept of a version; return the folder."""
        with reachable(self.uri):
            source = self.client.get_model_version_download_uri(version.name, str(version.number))
            return Path(
                mlflow.artifacts.download_artifacts(
                    source, dst_path=str(target), tracking_uri=self.uri
                )
            )

    def download(self, version: Version, target: Path) -> Path:
        """Fetch a version; return the folder of its checkpoint."""
        folder = self.fetch(version, target)
        inside = folder / RELEASED
        return inside if inside.is_dir() else folder  # versions of before had it alone

    def _missing(self, model: str, names: list[str]) -> str:
        return (
            f"no model {model!r} in {place.without_secret(self.uri)}; registered are: "
            f"{', '.join(names) or 'none, train one with: laformer train demo'}"
        )

    def _versions(self, name: str) -> list[ModelVersion]:
        return self._pages(partial(self.client.search_model_versions, f"name = '{name}'"))

    @staticmethod
    def _pages(search: Callable[..., Any]) -> list[Any]:
        """Return what a search finds, all pages of it."""
        found, token = [], None
        while True:
            page = search(page_token=token)
            found += page
            token = page.token
            if not token:
                return found


def _aliases(model: RegisteredModel, found: ModelVersion) -> tuple[str, ...]:
    numbers = model.aliases.items()
    return tuple(sorted(alias for alias, number in numbers if int(number) == int(found.version)))


def _version(found: ModelVersion) -> Version:
    return Version(found.name, int(found.version), str(found.run_id), dict(found.tags))
