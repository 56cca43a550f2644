"""laformer export: a registered model for others, as a graph or as a folder of weights."""

import sys

if __name__ == "__main__":
    from jobs import cli

    sys.exit(cli.main(["export", *sys.argv[1:]]))

import tempfile
from pathlib import Path

from jobs.config import ExportJob
from jobs.console import say, working
from jobs.errors import JobError
from jobs.restore import load
from laformer import checkpoint
from laformer.export import save


def run(job: ExportJob) -> Path:
    """Write the graph or the folder whole or not at all; return its path."""
    name, files = load(job.model)
    target = Path(job.target)
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.suffix:
        return write_folder(name, files, target)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch, working(f"exporting {name}"):
        for file, data in files.items():
            (Path(scratch) / file).write_bytes(data)
        written = Path(scratch) / target.name
        save(checkpoint.load_model(Path(scratch)), written)
        written.replace(target)
    say(f"{name} as a graph: {target} (heights and widths that are multiples of 8 from 16 on)")
    return target


def write_folder(name: str, files: dict[str, bytes], target: Path) -> Path:
    """Write a released checkpoint; one that is there is replaced. Raises JobError for the rest."""
    if target.exists() and not (target / checkpoint.SUMS).exists():
        raise JobError(f"{target} is there and is no model; name a folder that is not there")
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        written = Path(scratch) / "written"
        written.mkdir()
        for file, data in files.items():
            (written / file).write_bytes(data)
        if target.exists():
            target.rename(Path(scratch) / "replaced")
        written.rename(target)
    say(f"{name} as {checkpoint.CONFIG} and {checkpoint.MODEL}: {target}")
    return target
