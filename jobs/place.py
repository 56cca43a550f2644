"""Facts of a place, from the environment: where runs, manifests and models live.

    LAFORMER_STORE        folder or s3://bucket/prefix; "runs" when not set
    MLFLOW_TRACKING_URI   sqlite or http server; a sqlite file beside the runs when not set
    RAY_ADDRESS           a cluster to join; a local one is started when not set
    LAFORMER_JOB          set by `laformer submit` for what it runs: the id of the job

Credentials and endpoints of object storage are the usual AWS_* variables.
"""

import os
import re
import shlex
import sys
from pathlib import Path

from jobs.errors import JobError
from pipelines import storage


def store() -> str:
    """Return the uri below which everything is kept.

    Raises JobError when a submitted job has none: its folder is gone with the job.
    """
    given = os.environ.get("LAFORMER_STORE")
    if not given and (job := os.environ.get("LAFORMER_JOB")):
        raise JobError(
            f"LAFORMER_STORE is set neither where {job} was submitted nor on the cluster; "
            "set it to a bucket, for example s3://bucket/laformer"
        )
    return storage.absolute(given or "runs")


def manifest_uri(given: str | None = None) -> str:
    """Return the manifest that `prepare` writes and `train` reads, unless another is given."""
    return storage.absolute(given) if given else storage.join(store(), "manifest.parquet")


def tracking_uri() -> str:
    """Return MLflow's address. A sqlite file needs a disk: a remote store keeps it in ./runs."""
    given = os.environ.get("MLFLOW_TRACKING_URI")
    if given:
        # Workers run in folders of their own: a relative file would be another one there.
        relative = re.fullmatch(r"sqlite:///([^/].*)", given)
        return f"sqlite:///{Path(relative[1]).resolve()}" if relative else given
    folder = Path("runs") if storage.is_remote(store()) else Path(store())
    folder.mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{folder.resolve() / 'mlflow.db'}"


def without_secret(uri: str) -> str:
    """Return an address, or a text with addresses, as it may be shown: without passwords."""
    return re.sub(r"(?<=://)[^/\s]*@", "", uri)


def run_folder(name: str) -> str:
    """Return where the checkpoints of a run are."""
    return storage.join(store(), "train", name)


def in_shell(program: str, *words: str) -> str:
    """Return a command as one would type it: the program of this environment, its store named."""
    path = Path(sys.executable).parent / program
    if path.is_relative_to(Path.cwd()):
        path = path.relative_to(Path.cwd())
    store = os.environ.get("LAFORMER_STORE")
    prefix = f"LAFORMER_STORE={shlex.quote(store)} " if store else ""
    return prefix + shlex.join([str(path), *words])
