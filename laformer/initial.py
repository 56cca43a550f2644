"""Starting from the weights of another network instead of random ones.

The files of a released checkpoint come as bytes: what holds the weights may be a registry, a
bucket or a folder, and a worker needs none of them.
"""

import dataclasses
import json
from dataclasses import dataclass
from typing import Any

import torch
from safetensors.torch import load
from torch import Tensor

from laformer import parallel
from laformer.checkpoint import CONFIG, MODEL
from laformer.config import ModelConfig
from laformer.errors import CheckpointError
from laformer.loop import State
from laformer.model import LAformer

SHOWN = 3
"""Weights of a kind that a message names."""
OF_THE_IMAGES = ("in_channels", "out_channels", "scale")
"""What the images of a task decide: no option of a run can make them fit."""

Files = dict[str, bytes]
"""Names and bytes of a released checkpoint."""
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Difference:
    """How the weights of a released network differ from those of a network to be trained."""

    missing: dict[str, Shape]
    """Only the network to be trained has them."""
    extra: dict[str, Shape]
    """Only the released network has them."""
    reshaped: dict[str, tuple[Shape, Shape]]
    """Both have them in other shapes: released, to be trained."""
    options: dict[str, tuple[Any, Any]]
    """Fields of ModelConfig that differ: released, to be trained."""
    num_fitting: int
    """Weights that are the same in name and shape."""

    @classmethod
    def of(cls, files: Files, config: ModelConfig) -> "Difference":
        """Compare a released checkpoint with a network, without building the network."""
        with torch.device("meta"):
            ours = shapes(LAformer(config).state_dict())
        theirs = shapes(load(files[MODEL]))
        both = theirs.keys() & ours.keys()
        reshaped = {n: (theirs[n], ours[n]) for n in ours if n in both and theirs[n] != ours[n]}
        present, released = dataclasses.asdict(config), json.loads(files[CONFIG])
        return cls(
            missing={name: ours[name] for name in ours if name not in both},
            extra={name: theirs[name] for name in theirs if name not in both},
            reshaped=reshaped,
            options={
                name: (released.get(name), value)
                for name, value in present.items()
                if _plain(released.get(name)) != _plain(value)
            },
            num_fitting=len(both) - len(reshaped),
        )

    @property
    def fits(self) -> bool:
        """Return whether every weight of one is a weight of the other."""
        return not (self.missing or self.extra or self.reshaped)

    def __str__(self) -> str:
        """Count and name what differs, the first few of each kind."""
        reshaped = [f"{n} {old}, here {new}" for n, (old, new) in self.reshaped.items()]
        kinds = {
            "missing": [f"{name} {shape}" for name, shape in self.missing.items()],
            "extra": [f"{name} {shape}" for name, shape in self.extra.items()],
            "of another shape": reshaped,
        }
        counted = [f"{len(n)} {kind} ({_first(n)})" for kind, n in kinds.items() if n]
        return ", ".join(counted) or "none differ"

    def options_text(self) -> str:
        """Say which fields of the two networks differ."""
        fields = [f"{name} {old}, here {new}" for name, (old, new) in self.options.items()]
        return ", ".join(fields) or "nothing that a configuration says"


def check(files: Files, config: ModelConfig, name: str, *, partial: bool = False) -> Difference:
    """Return how a released network differs from the one to be trained.

    Raises CheckpointError, saying what differs and what to do, unless all weights fit or, when
    `partial`, some do.
    """
    found = Difference.of(files, config)
    if found.fits or (partial and found.num_fitting):
        return found
    raise CheckpointError(
        f"{name} does not fit the network to be trained: of the weights {found.num_fitting} fit, "
        f"{found}. The networks differ in {found.options_text()}; {_next_act(found)}"
    )


def start_from(state: State, files: Files) -> None:
    """Give a fresh state, weights and average alike, the released weights that fit it.

    What does not fit keeps its random start; `check` has told of it before.
    """
    weights = load(files[MODEL])
    for tensors in (state.model.state_dict(), state.ema):
        for name, value in tensors.items():
            if name in weights and weights[name].shape == value.shape:
                parallel.fill(value, weights[name])


def shapes(tensors: dict[str, Tensor]) -> dict[str, Shape]:
    """Return the shape of each tensor."""
    return {name: tuple(value.shape) for name, value in tensors.items()}


def _next_act(found: Difference) -> str:
    kind = [name for name in OF_THE_IMAGES if name in found.options]
    if kind:
        act = f"use a model for the same kind of images: {', '.join(kind)} must be equal"
    elif found.options:
        act = f"use {' '.join(_flag(name, old) for name, (old, _) in found.options.items())}"
    else:
        act = "use a model that this version of the project trained"
    return f"{act}, or --init-partial to take only what fits" if found.num_fitting else act


def _flag(name: str, value: Any) -> str:
    words = " ".join(map(str, value)) if isinstance(value, list) else str(value)
    return f"--model.{name.replace('_', '-')} {words}"


def _plain(value: Any) -> Any:
    """Return a value as JSON gives it back."""
    return list(value) if isinstance(value, tuple) else value


def _first(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
