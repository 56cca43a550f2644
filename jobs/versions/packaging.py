"""A released checkpoint as a model that MLflow loads, without this project, and serves."""

import json
import shutil
import tempfile
from importlib.metadata import version
from pathlib import Path

import mlflow.pyfunc
import numpy as np
from mlflow.models import ModelSignature
from mlflow.types import Schema, TensorSpec

import laformer
from jobs.connection import quiet
from jobs.versions import served
from laformer import checkpoint

REQUIREMENTS = ("mlflow", "numpy", "safetensors", "torch")
"""All that `laformer` and `jobs/versions/served.py` import to restore."""
EXAMPLE_PX = 16
"""Side of the input example."""


def package(released: Path, target: Path) -> None:
    """Write a released checkpoint as a pyfunc from code: the network's code and its weights.

    The weights stay safetensors; nothing is pickled.
    """
    quiet()
    any_images = Schema([TensorSpec(np.dtype("O"), (-1,))])
    with tempfile.TemporaryDirectory() as scratch:
        # In the model it has the name of the folder that it came from.
        source = shutil.copytree(released, Path(scratch) / served.ARTIFACT)
        mlflow.pyfunc.save_model(
            target,
            python_model=served.__file__,
            artifacts={served.ARTIFACT: str(source)},
            code_paths=[str(Path(laformer.__file__).parent)],
            pip_requirements=[requirement(name) for name in REQUIREMENTS],
            signature=ModelSignature(inputs=any_images, outputs=any_images),
            input_example=example(num_channels(released)),
        )


def requirement(name: str) -> str:
    """Return the version that is installed, as every index has it: without +cpu or +cu128."""
    return f"{name}=={version(name).split('+')[0]}"


def num_channels(released: Path) -> int:
    """Return the channels of the images that a released network takes."""
    return int(json.loads((released / checkpoint.CONFIG).read_text())["in_channels"])


def example(channels: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Return a batch (1, H, W, C) uint8 of one image that goes from black to white."""
    ramp = np.linspace(0, 255, EXAMPLE_PX * EXAMPLE_PX).astype(np.uint8)
    return np.repeat(ramp.reshape(1, EXAMPLE_PX, EXAMPLE_PX, 1), channels, axis=3)
