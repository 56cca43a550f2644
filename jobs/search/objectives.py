"""What a search can ask for."""

from typing import Literal, TypeAlias

Objective: TypeAlias = Literal["psnr", "params", "macs", "latency"]
Sense: TypeAlias = Literal["maximize", "minimize"]
SENSE: dict[Objective, Sense] = {
    "psnr": "maximize",
    "params": "minimize",
    "macs": "minimize",
    "latency": "minimize",
}
"""What a search can ask for, and which of two is better."""
UNITS: dict[Objective, str] = {
    "psnr": "dB on held-out photos",
    "params": "parameters",
    "macs": "multiply-accumulates for 256 x 256 pixels",
    "latency": "ms for 256 x 256 pixels",
}
