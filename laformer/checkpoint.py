"""Checkpoints: a folder that is whole or not there.

    config.json           ModelConfig; with the weights it is all that restoring needs
    weights.safetensors   the averaged weights, the ones that are released
    state.safetensors     trained weights and optimiser averages; resuming needs it
    state.json            step, skipped steps and the facts of the run (job, samples, tracking run)
    checksums.json        sha256 of each file above, written last

No pickle anywhere: loading a checkpoint runs no code from it.
"""

import dataclasses
import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from laformer.config import ModelConfig
from laformer.errors import CheckpointError
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
ADAM = ("step", "exp_avg", "exp_avg_sq")
Facts = dict[str, Any]


def save(folder: Path, state: State, facts: Facts) -> None:
    """Write a checkpoint; `facts` must be JSON. An existing folder of that name is replaced."""
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    write_json(partial / CONFIG, dataclasses.asdict(state.model.config))
    save_file(_contiguous(state.ema), partial / WEIGHTS)
    save_file(_contiguous(_training_tensors(state)), partial / STATE)
    counts = {"step": state.step, "skips": dataclasses.asdict(state.skips)}
    write_json(partial / FACTS, {**counts, **facts})
    write_json(
        partial / SUMS, {name: _sha256(partial / name) for name in (CONFIG, WEIGHTS, STATE, FACTS)}
    )
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)


def load_model(folder: Path, device: torch.device | str = "cpu") -> LAformer:
    """Return the released network, in evaluation mode. Needs config and weights alone.

    Raises CheckpointError when the folder is missing, incomplete or damaged.
    """
    verify(folder)
    options = json.loads((folder / CONFIG).read_text())
    options["blocks"] = tuple(options["blocks"])
    try:
        model = LAformer(ModelConfig(**options))
        model.load_state_dict(load_file(folder / WEIGHTS))
    except (TypeError, ValueError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(
            f"{folder} does not fit this version of LAformer ({error}); "
            "use the version of the project that wrote it"
        ) from error
    return model.to(device).eval()


def load_state(folder: Path, state: State) -> Facts:
    """Bring a fresh state to where the checkpoint was saved; return the facts of the run.

    Raises CheckpointError when the folder is incomplete, damaged or of another network.
    """
    verify(folder)
    if not (folder / STATE).exists():
        raise CheckpointError(f"{folder} holds a released model, not a run to resume")
    facts = read_facts(folder)
    tensors = load_file(folder / STATE)
    ema = load_file(folder / WEIGHTS)
    try:
        state.model.load_state_dict(_under(tensors, "model."))
    except RuntimeError as error:
        raise CheckpointError(f"{folder} is of another network: {error}") from error
    for name, value in state.ema.items():
        value.copy_(ema[name])
    for name, parameter in state.model.named_parameters():
        saved = _under(tensors, f"optimizer.{name}.")
        state.optimizer.state[parameter] = {
            key: saved[key].clone()
            if key == "step"
            else torch.empty_like(parameter).copy_(saved[key])
            for key in saved
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
        raise CheckpointError(
            f"{folder} is not a complete checkpoint: it has no {SUMS}; "
            "use an earlier step or train again"
        )
    for name, expected in json.loads(sums.read_text()).items():
        path = folder / name
        if not path.exists():
            raise CheckpointError(f"{folder} lacks {name}; use an earlier step")
        if _sha256(path) != expected:
            raise CheckpointError(
                f"{path} is damaged: its sha256 is not the one in {SUMS}; use an earlier step"
            )


def release(folder: Path, target: Path) -> None:
    """Copy what restoring needs, without optimiser state, as a complete checkpoint of its own."""
    verify(folder)
    target.mkdir(parents=True, exist_ok=True)
    names = (CONFIG, WEIGHTS, FACTS)
    for name in names:
        shutil.copy2(folder / name, target / name)
    write_json(target / SUMS, {name: _sha256(target / name) for name in names})


def write_json(path: Path, value: object) -> None:
    """Write JSON that a person can read, and have it on disk before returning."""
    with path.open("w") as file:
        file.write(json.dumps(value, indent=2, sort_keys=True) + "\n")
        file.flush()
        os.fsync(file.fileno())


def _training_tensors(state: State) -> dict[str, Tensor]:
    tensors = {f"model.{name}": value for name, value in state.model.state_dict().items()}
    for name, parameter in state.model.named_parameters():
        moments = state.optimizer.state.get(parameter, {})
        tensors |= {f"optimizer.{name}.{key}": moments[key] for key in ADAM if key in moments}
    return tensors


def _contiguous(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().contiguous().cpu() for name, value in tensors.items()}


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
