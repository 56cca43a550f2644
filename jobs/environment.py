"""What a run runs on: versions of what it stands on, and the devices of its cluster."""

import platform
from importlib.metadata import PackageNotFoundError, version

import ray

PACKAGES = ("torch", "ray", "numpy", "opencv-python-headless", "mlflow")
"""What could change a number of a run."""
DEVICES = "devices"
"""Tag of a run: its CPUs and GPUs."""
COMMIT = "mlflow.source.git.commit"
"""Tag under which MLflow's pages show the commit of the code."""


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages, by the name of a tag."""
    found = {"python": platform.python_version(), "platform": platform.platform(terse=True)}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return {f"version.{name}": value for name, value in found.items()}


def devices() -> str:
    """Return what the cluster has, in words: 64 CPU, 8 GPU (H200). Ray must be running."""
    has = ray.cluster_resources()
    kinds = [name.split(":", 1)[1] for name in has if name.startswith("accelerator_type:")]
    words = [f"{has.get('CPU', 0):.0f} CPU"]
    if has.get("GPU"):
        words.append(f"{has['GPU']:.0f} GPU" + (f" ({', '.join(sorted(kinds))})" if kinds else ""))
    return ", ".join(words)
