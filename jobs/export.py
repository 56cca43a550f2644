"""laformer export: a registered model as a graph for those who run it without this project."""

import sys

if __name__ == "__main__":
    from jobs import cli

    sys.exit(cli.main(["export", *sys.argv[1:]]))

import tempfile
from pathlib import Path

from jobs.config import ExportJob
from jobs.console import say, working
from jobs.restore import load
from laformer import checkpoint
from laformer.export import save


def run(job: ExportJob) -> Path:
    """Write the graph whole or not at all; return its path."""
    name, files = load(job.model)
    target = Path(job.target)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch, working(f"exporting {name}"):
        for file, data in files.items():
            (Path(scratch) / file).write_bytes(data)
        written = Path(scratch) / target.name
        save(checkpoint.load_model(Path(scratch)), written)
        written.replace(target)
    say(f"{name} as a graph: {target} (heights and widths that are multiples of 8 from 16 on)")
    return target
