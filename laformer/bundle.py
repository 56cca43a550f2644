"""Trained weights that come with the package, one folder a task: small networks and their cards.

Each folder is a released checkpoint, `README.md` in it says how it was made and what it can do.
"""

from pathlib import Path

from laformer import checkpoint
from laformer.errors import ModelError

BUNDLED = Path(__file__).with_name("bundled")


def tasks() -> list[str]:
    """Return the tasks that have bundled weights, by name."""
    return sorted(path.parent.name for path in BUNDLED.glob(f"*/{checkpoint.SUMS}"))


def folder(task: str) -> Path:
    """Return the checkpoint of a task, for `laformer.restore.Restorer.load`.

    Raises ModelError naming the tasks that have one.
    """
    if task not in tasks():
        raise ModelError(
            f"no weights for {task!r} come with the package; those for {', '.join(tasks())} do"
        )
    return BUNDLED / task
