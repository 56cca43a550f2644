"""Checkpoints: a folder that is whole or not there.

    config.json           ModelConfig; with the weights it is all that restoring needs
    weights.safetensors   the averaged weights, the ones that are released
    state.safetensors     trained weights and optimiser averages; resuming needs it
    state.json            step, skipped steps and the facts of the run (job, samples, tracking run)
    checksums.json        sha256 of each file above, written last

A released one is for restoring and for others to load, in the layout of the Hugging Face hub:

    config.json           the same; also in the header of the weights, which are enough alone
    model.safetensors     the averaged weights
    state.json, checksums.json

No pickle anywhere: loading a checkpoint runs no code from it.

That is all a run has. The learning rate is a pure function of the step, the samples one of their
ids, and neither a step nor a validation draws a random number: there is no generator to keep.
"""

import dataclasses
import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from laformer import header, parallel
from laformer.config import ModelConfig
from laformer.errors import CheckpointError, DiskFullError, UnfinishedError
from laformer.guard import Skips
from laformer.loop import State
from laformer.model import LAformer

CONFIG, WEIGHTS, STATE, FACTS, SUMS = (
    "config.json",
    "weights.safetensors",
    "state.safetensors",
    "state.json",
    "checksums.json",
)
MODEL = "model.safetensors"
"""The weights of a released checkpoint."""
FILES = (CONFIG, WEIGHTS, STATE, MODEL, FACTS, SUMS)
ADAM = ("step", "exp_avg", "exp_avg_sq")
Facts = dict[str, Any]


@dataclass(frozen=True)
class Snapshot:
    """The state of one step, copied: training may go on while it is written."""

    config: dict[str, Any]
    """The network."""
    weights: dict[str, Tensor]
    """The averaged weights."""
    training: dict[str, Tensor]
    """Trained weights and optimiser averages."""
    facts: Facts
    """JSON: the step and what is known of the run."""

    @classmethod
    def take(cls, state: State, facts: Facts) -> "Snapshot":
        """Copy all that training changes into memory of this process."""
        counts = {"step": state.step, "skips": dataclasses.asdict(state.skips)}
        return cls(
            config=dataclasses.asdict(state.model.config),
            weights=_copied(state.ema),
            training=_copied(_training_tensors(state)),
            facts={**counts, **facts},
        )

    @property
    def step(self) -> int:
        """Steps done."""
        return int(self.facts["step"])

    @property
    def num_bytes(self) -> int:
        """Bytes of the tensors, which are nearly all of the files."""
        return sum(t.nbytes for t in (*self.weights.values(), *self.training.values()))

    def files(self) -> Iterator[tuple[str, bytes]]:
        """Yield name and bytes of each file, one at a time, the checksums last."""
        sums = {}
        for name in (CONFIG, WEIGHTS, STATE, FACTS):
            data = self._file(name)
            sums[name] = hashlib.sha256(data).hexdigest()
            yield name, data
        yield SUMS, _json(sums)

    def _file(self, name: str) -> bytes:
        if name in (CONFIG, FACTS):
            return _json(self.config if name == CONFIG else self.facts)
        return safetensors.torch.save(self.weights if name == WEIGHTS else self.training)


def save(folder: Path, state: State, facts: Facts) -> None:
    """Write a checkpoint; `facts` must be JSON. An existing folder of that name is replaced.

    Raises DiskFullError when there is no room; the existing folder is then as it was.
    """
    snapshot = Snapshot.take(state, facts)
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        for name, data in snapshot.files():
            _write(partial / name, data)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        free = shutil.disk_usage(folder.parent).free
        raise DiskFullError(
            f"{folder} has no room: a checkpoint is {snapshot.num_bytes >> 10} KiB and "
            f"{free >> 10} KiB are free; free space or choose another folder"
        ) from error
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)


def load_model(folder: Path, device: torch.device | str = "cpu") -> LAformer:
    """Return the released network, in evaluation mode.

    Needs config and weights alone, or only the file of released weights in place of the folder.
    Raises CheckpointError when the folder is missing, incomplete or damaged.
    """
    weights = weights_of(folder)
    if folder.is_file():
        options = header.config_of(folder)
    else:
        verify(folder)
        options = json.loads((folder / CONFIG).read_text())
    try:
        model = LAformer(ModelConfig(**options | {"blocks": tuple(options["blocks"])}))
        model.load_state_dict(load_file(weights))
    except (KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(
            f"{folder} does not fit this version of LAformer ({error}); "
            "use the version of the project that wrote it"
        ) from error
    return model.to(device).eval()


def load_state(folder: Path, state: State) -> Facts:
    """Bring a fresh state to where the checkpoint was saved; return the facts of the run.

    A state that is cut over workers takes its share, one tensor after the other. Raises
    CheckpointError when the folder is incomplete, damaged or of another network.
    """
    verify(folder)
    if not (folder / STATE).exists():
        raise CheckpointError(f"{folder} holds a released model, not a run to resume")
    facts = read_facts(folder)
    weights = state.model.state_dict()
    with safe_open(folder / STATE, "pt") as saved, safe_open(folder / WEIGHTS, "pt") as averaged:
        names = set(saved.keys())
        _require_same(folder, saved, weights)
        for name, value in weights.items():
            parallel.fill(value, saved.get_tensor(f"model.{name}"))
            parallel.fill(state.ema[name], averaged.get_tensor(name))
        for name, parameter in state.model.named_parameters():
            moments = {key: f"optimizer.{name}.{key}" for key in ADAM}
            state.optimizer.state[parameter] = {
                key: _moment(key, saved.get_tensor(stored), parameter)
                for key, stored in moments.items()
                if stored in names
            }
    state.step = int(facts["step"])
    state.skips = Skips(**facts.get("skips", {}))
    return facts


def read_facts(folder: Path) -> Facts:
    """Return what `save` was given, the step and the skipped ones."""
    return cast("Facts", json.loads((folder / FACTS).read_text()))


def verify(folder: Path) -> None:
    """Raise CheckpointError unless every file is there with the bytes that were written."""
    sums = folder / SUMS
    if not sums.exists():
        raise UnfinishedError(
            f"{folder} is not a complete checkpoint: it has no {SUMS}; "
            "use an earlier step or train again"
        )
    try:
        expected_sums: dict[str, str] = dict(json.loads(sums.read_text()))
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{sums} is damaged: it is no JSON; use an earlier step") from error
    for name, expected in expected_sums.items():
        path = folder / name
        if not path.exists():
            raise CheckpointError(f"{folder} lacks {name}; use an earlier step")
        if _sha256(path) != expected:
            raise CheckpointError(
                f"{path} is damaged: its sha256 is not the one in {SUMS}; use an earlier step"
            )


def weights_of(folder: Path) -> Path:
    """Return the file of averaged weights of a checkpoint, released or not, or of a file alone."""
    if folder.is_file():
        return folder
    return folder / (WEIGHTS if (folder / WEIGHTS).exists() else MODEL)


def release(folder: Path, target: Path) -> None:
    """Copy what restoring needs, without optimiser state, as a complete checkpoint of its own.

    `folder` may be released already, or a file of released weights alone, of which no more is known
    than its network.
    """
    if folder.is_file():
        config, facts = _json(header.config_of(folder)), _json({})
    else:
        verify(folder)
        config, facts = ((folder / name).read_bytes() for name in (CONFIG, FACTS))
    target.mkdir(parents=True, exist_ok=True)
    weights = header.stamped(weights_of(folder).read_bytes(), json.loads(config))
    files = {CONFIG: config, MODEL: weights, FACTS: facts}
    for name, data in files.items():
        _write(target / name, data)
    sums = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    write_json(target / SUMS, sums)


def write_json(path: Path, value: object) -> None:
    """Write JSON that a person can read, and have it on disk before returning."""
    _write(path, _json(value))


def _json(value: object) -> bytes:
    return (json.dumps(value, indent=2, sort_keys=True) + "\n").encode()


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _training_tensors(state: State) -> dict[str, Tensor]:
    tensors = {f"model.{name}": value for name, value in state.model.state_dict().items()}
    for name, parameter in state.model.named_parameters():
        moments = state.optimizer.state.get(parameter, {})
        tensors |= {f"optimizer.{name}.{key}": moments[key] for key in ADAM if key in moments}
    return tensors


def _copied(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Copy tensors to this process; channels_last becomes contiguous, which files want."""
    return {
        name: torch.empty(value.shape, dtype=value.dtype).copy_(value.detach())
        for name, value in tensors.items()
    }


def _require_same(folder: Path, saved: Any, weights: dict[str, Tensor]) -> None:
    """Raise CheckpointError unless the saved weights have the names and shapes of these."""
    ours = {f"model.{name}": list(value.shape) for name, value in weights.items()}
    theirs = {
        name: saved.get_slice(name).get_shape()
        for name in saved.keys()  # noqa: SIM118 - no dictionary
        if name.startswith("model.")
    }
    names = sorted(ours.keys() | theirs.keys())
    differing = [name for name in names if ours.get(name) != theirs.get(name)]
    if differing:
        first = differing[0]
        raise CheckpointError(
            f"{folder} is of another network: {len(differing)} weights differ, the first is "
            f"{first}: {theirs.get(first, 'missing')}, here {ours.get(first, 'missing')}"
        )


def _moment(key: str, value: Tensor, parameter: Tensor) -> Tensor:
    """Return an average of the optimiser as it is kept beside its parameter."""
    if key == "step":
        return value.clone()
    moment = torch.empty_like(parameter)
    parallel.fill(moment, value)
    return moment


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
