"""The model that a run starts from: resolved once, when the run is first started."""

import json
from dataclasses import dataclass
from pathlib import Path

from jobs import checkpoints, place
from jobs.config import TrainJob
from jobs.console import say, working
from jobs.restore import load
from laformer import checkpoint, initial
from pipelines import storage

INIT_FILE = "init.json"
"""Beside the checkpoints of a run: the model it started from, and the digest of its weights."""


@dataclass(frozen=True)
class Origin:
    """Where the first weights of a run come from."""

    model: str
    """name/version, or a checkpoint folder: its uri, or its path from the root on."""
    sha256: str
    """Digest of the weights."""
    files: initial.Files | None
    """The released checkpoint; None when the run has checkpoints of its own to resume from."""

    @property
    def facts(self) -> dict[str, str]:
        """Return what is kept of it."""
        return {"model": self.model, "sha256": self.sha256}


def origin(job: TrainJob, run: str, *, begun: bool) -> Origin | None:
    """Return what `--init` means for the run of that name, or None without it.

    An alias means the version it meant at the first start: by now it may name what this very run
    has registered. A run that has `begun` needs neither registry nor folder. Raises
    CheckpointError when the weights do not fit the network.
    """
    if job.init is None:
        return None
    uri = storage.join(place.run_folder(run), INIT_FILE)
    recorded: dict[str, str] = json.loads(storage.get(uri)) if storage.exists(uri) else {}
    known = bool(recorded) and means(job.init, recorded["model"])
    if known and begun:
        return Origin(**recorded, files=None)
    with working(f"loading the first weights from {job.init}"):
        name, files = load(recorded["model"] if known else job.init)
    differing = initial.check(files, job.model, name, partial=job.init_partial)
    tell(name, differing)
    model = checkpoints.named(job.init) or name
    return Origin(model, json.loads(files[checkpoint.SUMS])[checkpoint.MODEL], files)


def means(given: str, model: str) -> bool:
    """Return whether what a user gave may be a recorded model: the same, or an alias of it."""
    given = given.removeprefix("models:/")
    if model in (given, storage.absolute(given) if "://" in given else str(Path(given).resolve())):
        return True
    return "@" in given and given.split("@")[0] == model.rsplit("/", 1)[0]


def tell(name: str, differing: initial.Difference) -> None:
    """Say what the run takes over, and what it does not."""
    say(f"the first weights are those of {name}")
    if not differing.fits:
        say(f"note: {differing.num_fitting} of its weights fit; of the others {differing}")
    elif differing.options:
        say(
            f"note: its weights fit, but it is another network: {differing.options_text()}; "
            "training has to undo that first"
        )
