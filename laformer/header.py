"""What a safetensors file says of itself: the network that its tensors are the weights of.

A file begins with the length of its header in 8 bytes, little-endian; the header is JSON, padded
with blanks so that the tensors begin at a multiple of 8; `__metadata__` there holds texts. Source:
the format's README. The library writes that map in an order that changes from process to process,
and a digest of the file with it: here it is sorted.
"""

import json
import struct
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from laformer.errors import CheckpointError

CONFIG = "config"
"""Name of the text that holds the fields of ModelConfig as JSON."""
LENGTH = struct.Struct("<Q")
ALIGNED = 8


def stamped(data: bytes, config: dict[str, Any]) -> bytes:
    """Return a safetensors file whose header says the network; the tensors stay as they are."""
    (length,) = LENGTH.unpack_from(data)
    header: dict[str, Any] = json.loads(data[LENGTH.size : LENGTH.size + length])
    # "format" is what libraries of the ecosystem look for before they read the tensors.
    texts = {CONFIG: json.dumps(config, sort_keys=True), "format": "pt"}
    entries = {name: header[name] for name in header if name != "__metadata__"}
    text = json.dumps({"__metadata__": texts} | entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % ALIGNED)
    return LENGTH.pack(len(text)) + text + data[LENGTH.size + length :]


def config_of(path: Path) -> dict[str, Any]:
    """Return the fields of ModelConfig that a file of weights names.

    Raises CheckpointError when it is no such file or does not say.
    """
    try:
        with safe_open(path, framework="pt") as file:
            texts = file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} is no safetensors file: {error}; name another") from error
    if CONFIG not in texts:
        raise CheckpointError(
            f"{path} does not say which network it is for; name the folder that has its "
            "config.json and checksums.json too"
        )
    try:
        config = json.loads(texts[CONFIG])
    except ValueError as error:
        raise CheckpointError(
            f"{path} has a damaged description of its network ({error}); fetch the file again"
        ) from error
    if not isinstance(config, dict):
        raise CheckpointError(
            f"{path} describes its network by {texts[CONFIG][:40]!r}, not by fields; "
            "fetch the file again"
        )
    return config
