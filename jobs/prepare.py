"""laformer prepare: photos in, a manifest out."""

import sys

if __name__ == "__main__":
    from jobs import cli

    sys.exit(cli.main(["prepare", *sys.argv[1:]]))

from jobs import place
from jobs.cluster import connected
from jobs.config import PrepareJob
from jobs.console import say, working
from jobs.errors import JobError
from pipelines import manifest, storage
from pipelines.manifest import Manifest

SHOWN_BAD = 10
"""Bad photos named on the terminal; the manifest names all."""


def run(job: PrepareJob) -> Manifest:
    """Write the manifest and say what is in it; bad photos are rows with their reason.

    Raises JobError when no photo is usable.
    """
    root, uri = storage.absolute(job.photos), place.manifest_uri(job.manifest)
    previous = manifest.read(uri) if storage.exists(uri) else None
    if previous is not None and previous.root != root:
        previous = None
    with working(f"looking at the photos of {root}"), connected() as cluster:
        cluster.require_shared(root)
        catalogue = manifest.index(root, holdout=job.holdout, previous=previous)
    manifest.write(catalogue, uri)
    bad = catalogue.bad().to_pylist()
    num_train, num_held_out = (catalogue.usable(side).num_rows for side in ("train", "held_out"))
    say(f"{num_train} photos to train on, {num_held_out} held out, {len(bad)} bad: {uri}")
    for row in bad[:SHOWN_BAD]:
        say(f"  bad: {row['key']}: {row['reason']}")
    if len(bad) > SHOWN_BAD:
        say(f"  and {len(bad) - SHOWN_BAD} more: column `reason` of the manifest")
    if not num_train + num_held_out:
        raise JobError(f"none of the {len(bad)} photos of {root} can be used; see the reasons")
    return catalogue
