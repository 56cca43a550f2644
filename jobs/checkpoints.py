"""The checkpoints of a run in storage: one folder a step, complete with its checksums.

The folders are the truth. Ray Train keeps a list of its own beside the checkpoints that are
reported to it, but a 503 while it writes that list ends the run, and half a list refuses to
start one (docs/adr/0004-checkpoints.md).
"""

import json
import math
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from laformer import checkpoint, header
from laformer.errors import CheckpointError
from pipelines import storage
from pipelines.errors import OutageError, StorageError

SCORE = "val_psnr_db"
"""The fact by which one checkpoint is better than another: more is better."""
FOLDER = re.compile(r"step_(\d{8,})")


@dataclass(frozen=True)
class StoredShelf:
    """The checkpoints below a uri: a value that can be pickled, as a worker gets it."""

    uri: str
    """Folder of the run, on a disk that all hosts see or in a bucket."""

    def steps(self) -> list[int]:
        """Return the steps of which anything is there, newest first."""
        return sorted(self._found(), reverse=True)

    def complete(self) -> list[int]:
        """Return the steps that were written to their end, newest first."""
        found = self._found()
        return sorted((step for step in found if checkpoint.SUMS in found[step]), reverse=True)

    def scores(self) -> dict[int, float | None]:
        """Return the score of every complete checkpoint by step; None where it has none."""
        return {step: self._score(step) for step in self.complete()}

    def facts(self, step: int) -> dict[str, Any]:
        """Return what a complete checkpoint says of its run."""
        text = storage.get(storage.join(self._folder(step), checkpoint.FACTS))
        found: dict[str, Any] = json.loads(text)
        return found

    def best_first(self) -> list[int]:
        """Return the complete checkpoints, the one with the highest score first."""
        scores = {step: score for step, score in self.scores().items() if score is not None}
        return sorted(scores, key=lambda step: (-scores[step], step))

    @contextmanager
    def opened(self, step: int) -> Iterator[Path]:
        """Lend a folder with the files of a checkpoint; of remote ones a copy."""
        if not storage.is_remote(self.uri):
            yield Path(self._folder(step))
            return
        with tempfile.TemporaryDirectory(prefix="laformer-") as scratch:
            for name in self._found().get(step, ()):
                data = storage.get(storage.join(self._folder(step), name))
                (Path(scratch) / name).write_bytes(data)
            yield Path(scratch)

    def store(self, step: int, files: Iterable[tuple[str, bytes]]) -> None:
        """Keep these files in their order: with the last one the checkpoint is complete.

        An earlier checkpoint of this step stops being complete first.
        """
        folder = self._folder(step)
        storage.delete(storage.join(folder, checkpoint.SUMS))
        for name, data in files:
            storage.put(storage.join(folder, name), data)

    def drop(self, step: int) -> None:
        """Remove a checkpoint; one that is not there is fine."""
        folder = self._folder(step)
        # Without its checksums it is no checkpoint any more, should the rest fail.
        storage.delete(storage.join(folder, checkpoint.SUMS))
        if not storage.is_remote(self.uri):
            shutil.rmtree(folder, ignore_errors=True)
            return
        for name in self._found().get(step, ()):
            storage.delete(storage.join(folder, name))

    def _folder(self, step: int) -> str:
        return storage.join(self.uri, f"step_{step:08d}")

    def _found(self) -> dict[int, set[str]]:
        """Return the names of the files of each step; on a disk a folder may be empty."""
        found: dict[int, set[str]] = {}
        remote = storage.is_remote(self.uri)
        if not remote:
            folders = Path(self.uri).glob("step_*")
            found = {int(m[1]): set() for f in folders if (m := FOLDER.fullmatch(f.name))}
        if remote or found:
            for entry in storage.list_entries(self.uri, ("",)):
                folder, _, name = entry.key.partition("/")
                if name and (match := FOLDER.fullmatch(folder)):
                    found.setdefault(int(match[1]), set()).add(name)
        return found

    def _score(self, step: int) -> float | None:
        try:
            score = float(self.facts(step)[SCORE])
        except OutageError:
            raise  # it has a score: taking it for none could remove the best
        except (StorageError, KeyError, TypeError, ValueError):
            return None
        return None if math.isnan(score) else score


def named(model: str) -> str | None:
    """Return the folder of a checkpoint, or the weights, that a user named, from the root on.

    None for another kind of name: that of a registered model.
    """
    if "://" in model:
        return storage.absolute(model)
    is_path = Path(model).is_dir() or model.endswith(".safetensors")
    return str(Path(model).resolve()) if is_path else None


def fetch(uri: str, scratch: Path) -> Path:
    """Return the folder of a checkpoint, verified; of a remote one the copy in `scratch`.

    A file of released weights that says its network counts as one. Raises CheckpointError, naming
    the uri, when it is missing, incomplete or damaged.
    """
    alone = uri.endswith(".safetensors") and not Path(uri).is_dir()
    fetched = Path(uri)
    if storage.is_remote(uri):
        scratch.mkdir()
        fetched = _copied_file(uri, scratch) if alone else _copied_folder(uri, scratch)
    elif alone and not fetched.is_file():
        raise CheckpointError(f"there is no file {uri}; name the weights or a checkpoint folder")
    try:
        if alone:
            header.config_of(fetched)
        else:
            checkpoint.verify(fetched)
    except CheckpointError as error:
        raise type(error)(str(error).replace(str(fetched), uri)) from error
    return fetched


def _copied_file(uri: str, scratch: Path) -> Path:
    try:
        data = storage.get(uri)
    except OutageError:
        raise
    except StorageError as error:
        raise CheckpointError(f"{error}; name the weights or a checkpoint folder") from error
    (scratch / checkpoint.MODEL).write_bytes(data)
    return scratch / checkpoint.MODEL


def _copied_folder(uri: str, scratch: Path) -> Path:
    found = {entry.key for entry in storage.list_entries(uri, ("",))}
    for name in found.intersection(checkpoint.FILES):
        (scratch / name).write_bytes(storage.get(storage.join(uri, name)))
    return scratch
