"""laformer models: the registered versions, and the way of a restored photo back to the commit."""

import sys

if __name__ == "__main__":
    from jobs import cli

    sys.exit(cli.main(["models", *sys.argv[1:]]))

import json
from datetime import UTC, datetime
from itertools import groupby
from typing import Any

from rich.table import Table
from rich.text import Text

from jobs import place
from jobs.config import ModelsJob
from jobs.console import CONSOLE, say
from jobs.errors import JobError, UnavailableError
from jobs.tracking import Tracker
from jobs.versions import lineage, seeds
from jobs.versions.registry import SIZE, Listed, Registry

MEASURES = ("input_psnr_db", "psnr_db", "input_ssim", "ssim", "protocol")
"""How the tags of a version begin that an evaluation left, before the name of its benchmark."""


def run(job: ModelsJob) -> list[dict[str, Any]]:
    """Print the versions, or the lineage of a photo; return what was printed."""
    if job.receipt is not None:
        links = lineage.trace(*job.receipt).links
        show([links], [table_of_links(links)], as_json=job.json)
        return [links]
    registry = Registry()
    names = RunNames(Tracker())
    rows = [facts(listed, names) for listed in registry.versions(job.name)]
    tables = [table_of(name, list(group)) for name, group in groupby(rows, lambda r: r["name"])]
    show(rows, tables, as_json=job.json)
    if not rows and not job.json:
        shown = place.without_secret(registry.uri)
        say(f"no model in {shown}; train one with: laformer train demo")
    return rows


class RunNames:
    """Names of runs by id, each asked for once."""

    def __init__(self, tracker: Tracker) -> None:
        self.tracker, self.known = tracker, dict[str, str | None]()

    def __call__(self, run_id: str) -> str | None:
        """Return the name of a run, or None when it was deleted."""
        if run_id not in self.known:
            try:
                self.known[run_id] = self.tracker.run(run_id).name
            except UnavailableError:
                raise
            except JobError:
                self.known[run_id] = None
        return self.known[run_id]


def facts(listed: Listed, names: RunNames) -> dict[str, Any]:
    """Return what is known of a version, as JSON."""
    version, tags = listed.version, listed.version.tags
    return {
        "version": str(version),
        "name": version.name,
        "number": version.number,
        "aliases": list(listed.aliases),
        "task": tags.get("task"),
        "scores": scores(tags),
        "step": int(tags["step"]) if "step" in tags else None,
        "run": names(version.run_id),
        "run_id": version.run_id,
        "num_bytes": int(tags[SIZE]) if SIZE in tags else None,
        "created": datetime.fromtimestamp(listed.created_s, UTC).isoformat(timespec="seconds"),
        "sha256": tags.get("sha256"),
        "manifest_sha256": tags.get("manifest_sha256"),
        "git_revision": tags.get("git_revision"),
        "seed": int(tags[seeds.SEED]) if seeds.SEED in tags else None,
        "recipe_sha256": tags.get(seeds.RECIPE),
    }


def scores(tags: dict[str, str]) -> dict[str, dict[str, Any]]:
    """Return what was measured by benchmark: PSNR in dB, SSIM, and the protocol's name."""
    found: dict[str, dict[str, Any]] = {}
    for tag in sorted(tags):
        measure, _, benchmark = tag.partition(".")
        if benchmark and measure in MEASURES:
            value = tags[tag] if measure == "protocol" else float(tags[tag])
            found.setdefault(benchmark, {})[measure] = value
    return found


def show(rows: list[dict[str, Any]], tables: list[Table], *, as_json: bool) -> None:
    """Print tables, or JSON that nothing wraps."""
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    for table in tables:
        CONSOLE.print(table)


def table_of(name: str, rows: list[dict[str, Any]]) -> Table:
    """Return a line for each version of a model."""
    shown = Table(title=name, title_justify="left")
    for column in ("", "aliases", "PSNR (input), dB", "step", "seed", "run", "MB", "made"):
        shown.add_column(column, overflow="fold")
    for row in rows:
        measured = "\n".join(
            f"{name} {found['psnr_db']:.2f} ({found.get('input_psnr_db', float('nan')):.2f})"
            for name, found in row["scores"].items()
            if "psnr_db" in found
        )
        shown.add_row(
            str(row["number"]),
            "\n".join(row["aliases"]) or "-",
            measured or "-",
            "-" if row["step"] is None else f"{row['step']:,}",
            "-" if row["seed"] is None else str(row["seed"]),
            row["run"] or "deleted",
            "-" if row["num_bytes"] is None else f"{row['num_bytes'] / 1e6:.1f}",
            row["created"][:16].replace("T", " "),
        )
    return shown


def table_of_links(links: dict[str, str]) -> Table:
    """Return a line for each link."""
    shown = Table(show_header=False)
    for name, value in links.items():
        shown.add_row(name, Text(value))  # a name may hold brackets, which would be markup
    return shown
