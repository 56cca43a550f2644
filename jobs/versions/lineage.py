"""From a restored photo back to what made it: receipt, version, run, manifests, commit."""

import hashlib
from dataclasses import dataclass
from typing import Any

import pyarrow.compute as pc

from jobs.errors import JobError, MissingModelError, UnavailableError
from jobs.tracking import Run, Tracker
from jobs.versions.registry import Registry, Version
from pipelines import storage
from pipelines.errors import OutageError, StorageError
from pipelines.parts import Parts
from pipelines.receipts import FOLDER, RESTORED, SCHEMA

UNKNOWN = "unknown"
"""A link that is not there any more, or never was."""


@dataclass(frozen=True)
class Lineage:
    """What is known of a restored photo."""

    receipt: dict[str, Any]
    """What laformer restore wrote down when it was done."""
    state: str
    """Whether the photo still is what was written."""
    version: Version | None
    """The version that restored it."""
    run: Run | None
    """The run that trained the version."""

    @property
    def links(self) -> dict[str, str]:
        """Return every link by its name, from the photo to the commit."""
        tags = self.version.tags if self.version else {}
        params = self.run.params if self.run else {}
        known = params | tags  # the tags are of the weights that were registered
        return {
            "photo": f"{self.receipt['target_key']}, {self.state}",
            "sha256": self.receipt["sha256"],
            "made of": f"{self.receipt['key']} in {self.receipt.get('source') or UNKNOWN}",
            "etag of that": self.receipt["etag"] or UNKNOWN,
            "model": self.receipt["model"],
            "version": str(self.version or UNKNOWN),
            "step": known.get("step", UNKNOWN),
            "run": f"{self.run.name} ({self.run.id})" if self.run else UNKNOWN,
            "checkpoints": self.run.folder if self.run else UNKNOWN,
            "manifest sha256": known.get("manifest_sha256", UNKNOWN),
            "commit": known.get("git_revision", UNKNOWN),
        }


def trace(target: str, key: str) -> Lineage:
    """Follow a photo back from the folder that laformer restore wrote to.

    What is no longer there is None. Raises JobError when no receipt names the photo.
    """
    root = storage.absolute(target)
    receipt = last_receipt(root, key)
    version = version_of(str(receipt["model"]), Registry())
    run = None
    if version is not None:
        try:
            run = Tracker().run(version.run_id)
        except UnavailableError:
            raise
        except JobError:
            run = None  # deleted: the tags of the version still say the most
    return Lineage(receipt, state_of(root, receipt), version, run)


def last_receipt(root: str, key: str) -> dict[str, Any]:
    """Return the newest receipt of a photo by its name below the target."""
    parts = Parts(storage.join(root, FOLDER), SCHEMA)
    for name in reversed(parts.names()):
        rows = parts.read([name])
        named = pc.or_(pc.equal(rows["target_key"], key), pc.equal(rows["key"], key))
        found = rows.filter(pc.and_(named, pc.equal(rows["status"], RESTORED)))
        if found.num_rows:
            return dict(found.to_pylist()[-1])
    raise JobError(
        f"no receipt of {key!r} in {root}; name the folder that laformer restore wrote to, and a "
        "photo below it"
    )


def state_of(root: str, receipt: dict[str, Any]) -> str:
    """Return whether the photo has the bytes that the receipt says."""
    try:
        data = storage.get(storage.join(root, str(receipt["target_key"])))
    except OutageError:
        raise
    except StorageError:
        return "no longer there"
    same = hashlib.sha256(data).hexdigest() == receipt["sha256"]
    return "as it was written" if same else "changed since"


def version_of(model: str, registry: Registry) -> Version | None:
    """Return the version that a receipt names, or the one whose weights it restored with.

    A checkpoint folder is named by its path and the start of the digest of its weights.
    """
    folder, _, digest = model.rpartition("@")
    if not folder:
        try:
            return registry.resolve(model)
        except MissingModelError:
            return None
    found = [each.version for each in registry.versions()]
    return next((v for v in found if v.tags.get("sha256", "").startswith(digest)), None)
