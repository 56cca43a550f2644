"""A trained network as a graph, for those who run it without this project.

Graphs take any batch size, and heights and widths that are multiples of 8 from 16 to 16384: pad an
image with `laformer.geometry.pad_to_multiple`, a smaller one to 16, and crop the result. They
compute what the network computes on the whole image; stripes need the network itself.
"""

from pathlib import Path

import torch
from torch.export import Dim, ExportedProgram

from laformer.errors import ModelError
from laformer.geometry import MULTIPLE
from laformer.model import LAformer

MOST = 2**14
"""Largest height and width in pixels that a graph declares to take."""


def export(model: LAformer) -> ExportedProgram:
    """Return the graph of a network on its device: lq (B, C, H, W) in, the restored image out."""
    device = next(model.parameters()).device
    # Sizes of 1 would be taken for constants: neither the batch nor the lowest level has one.
    example = torch.zeros(2, model.config.in_channels, 3 * MULTIPLE, 4 * MULTIPLE, device=device)
    height, width = (
        MULTIPLE * Dim(name, min=2, max=MOST // MULTIPLE) for name in ("height", "width")
    )
    sizes = {"lq": {0: Dim("batch", min=1, max=1024), 2: height, 3: width}}
    with torch.no_grad():
        return torch.export.export(
            model, (example.to(model.head.weight.dtype),), dynamic_shapes=sizes
        )


def save(model: LAformer, path: Path) -> None:
    """Write the graph of a network: `.pt2` for torch.export.load, `.onnx` for ONNX.

    Raises ModelError for any other suffix, or when ONNX is not installed.
    """
    if path.suffix == ".onnx":
        save_onnx(export(model), path)
    elif path.suffix == ".pt2":
        torch.export.save(export(model), path)
    else:
        raise ModelError(f"{path} ends neither in .onnx nor in .pt2; use one of them")


def save_onnx(program: ExportedProgram, path: Path) -> None:
    """Write what `export` made as ONNX. Raises ModelError without the extra `onnx`."""
    try:
        graph = torch.onnx.export(program, dynamo=True, verbose=False)
    except ModuleNotFoundError as error:
        raise ModelError(
            f"ONNX needs {error.name}; pip install -c constraints.txt -e '.[onnx]'"
        ) from error
    if graph is None:
        raise ModelError(f"torch {torch.__version__} made no ONNX graph; use the pinned version")
    graph.save(path)
