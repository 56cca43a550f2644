"""Every message that the code raises, as tables: read from the code."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
KNOWN = {
    "CheckpointError", "DataError", "DiskFullError", "ImageError", "JobError", "ManifestError",
    "MissingModelError", "ModelError", "NameRefusedError", "OldManifestError", "StorageError",
    "StreamError", "TrainingError", "UnavailableError", "UnfinishedError", "ValueError",
}  # fmt: skip
GROUPS = {
    "prepare": ("jobs/prepare", "pipelines/indexing", "pipelines/manifest", "pipelines/pairs"),
    "preview": ("jobs/preview",),
    "train": ("jobs/training", "jobs/train", "jobs/recipes", "laformer/batches", "laformer/guard",
              "laformer/initial", "laformer/keeper", "laformer/loop", "laformer/shelf",
              "laformer/terms", "laformer/worker", "pipelines/plan", "pipelines/sources",
              "pipelines/stages", "pipelines/training", "pipelines/validation"),
    "tune": ("jobs/tune", "jobs/search"),
    "evaluate": ("jobs/evaluat", "laformer/alignment", "laformer/blocking", "laformer/metrics",
                 "laformer/ssim", "pipelines/inputs", "pipelines/places", "pipelines/protocols"),
    "promote and models": ("jobs/promote", "jobs/models", "jobs/versions"),
    "restore": ("jobs/account", "jobs/compare", "jobs/restore", "laformer/attempts",
                "laformer/bands", "laformer/memory", "laformer/restore", "laformer/stripes",
                "pipelines/huge", "pipelines/inventory", "pipelines/mosaic",
                "pipelines/restoration", "pipelines/uploads"),
    "export": ("jobs/export", "laformer/export"),
    "submit and jobs": ("jobs/jobs", "jobs/place", "jobs/remote", "jobs/submit"),
    "demo": ("jobs/demo",),
    "the command line": ("jobs/cli", "jobs/config", "laformer/config", "pipelines/config",
                         "pipelines/tasks"),
    "a file of weights": ("jobs/checkpoints", "laformer/checkpoint", "laformer/header"),
    "MLflow and the cluster": ("jobs/cluster", "jobs/connection", "jobs/tracking"),
    "storage": ("pipelines/clients", "pipelines/storage"),
    "degradations": ("pipelines/degradations",),
    "an image": ("pipelines/",),
}  # fmt: skip
"""Where a message comes from; the first that fits."""


@dataclass(frozen=True)
class Message:
    """One message as the code has it, `…` for what is filled in."""

    text: str
    path: str
    """The file that raises it."""

    @property
    def parts(self) -> tuple[str, str]:
        """What is wrong, and what to do about it: the house style puts `;` between them."""
        said, _, act = self.text.partition("; ")
        return said, act


def raised() -> Iterator[Message]:
    """Yield the messages of the three packages, file by file."""
    for package in ("jobs", "laformer", "pipelines"):
        for path in sorted((ROOT / package).rglob("*.py")):
            tree = ast.parse(path.read_text())
            for node in ast.walk(tree):
                if not isinstance(node, ast.Raise) or not isinstance(node.exc, ast.Call):
                    continue
                if ast.unparse(node.exc.func) in KNOWN and node.exc.args:
                    text = written(node.exc.args[0]).strip()
                    if text.replace("…", "").strip():
                        yield Message(text, str(path.relative_to(ROOT)))


def written(node: ast.expr) -> str:
    """Return a string of the code with `…` for what is filled in."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(
            str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values
        )
    if isinstance(node, ast.BinOp):
        return written(node.left) + written(node.right)
    return "…"


def group_of(path: str) -> str:
    """Return what a file is about."""
    return next(
        (name for name, starts in GROUPS.items() if path.startswith(starts)), "anything else"
    )


def markdown() -> str:
    """Return a table for each group."""
    groups: dict[str, list[Message]] = {name: [] for name in (*GROUPS, "anything else")}
    for message in raised():
        groups[group_of(message.path)].append(message)
    lines: list[str] = []
    for name, found in groups.items():
        if not found:
            continue
        lines += ["", f"**{name}**", "", "| message | what to do | raised in |", "|---|---|---|"]
        for message in sorted(found, key=lambda each: each.text.lower()):
            said, act = (part.replace("|", "\\|").replace("`", "'") for part in message.parts)
            cells = (f"`{said}`", f"`{act}`" if act else "", f"`{message.path}`")
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
