"""The command line: `laformer VERB ...`, the same as `python -m jobs.VERB ...`.

Arguments are parsed before a verb is imported: `--help` imports no torch, Ray or MLflow.
"""

import dataclasses
import importlib
import os
import sys
from pathlib import Path
from typing import Any

import tyro
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec

from jobs import config, console, failures, recipes
from jobs.errors import JobError
from laformer.config import Stage

VERBS: dict[str, tuple[type, str]] = {
    "prepare": (config.PrepareJob, "index photos into a manifest"),
    "preview": (config.PreviewJob, "show what a task makes of photos"),
    "train": (config.TrainJob, "train a recipe; the same command resumes"),
    "tune": (config.TuneJob, "search for better values of a recipe; the same command continues"),
    "report": (config.ReportJob, "write a page about a training run"),
    "evaluate": (config.EvaluateJob, "measure a model under named protocols"),
    "promote": (config.PromoteJob, "make a better candidate the champion"),
    "models": (config.ModelsJob, "list versions, or trace a restored photo back"),
    "restore": (config.RestoreJob, "restore a photo, a folder or a bucket"),
    "export": (config.ExportJob, "write a model for others: ONNX, torch.export, Hugging Face"),
    "submit": (config.SubmitJob, "run one of these on a cluster"),
    "jobs": (config.JobsJob, "list, show, follow or stop what was submitted"),
    "demo": (config.DemoJob, "all of the above once, on real photos"),
}
USAGE = "usage: laformer VERB ...      laformer VERB --help explains one\n\n"


def main(argv: list[str] | None = None) -> int:
    """Run a verb; return the exit code: 0 done, 1 failed, 2 not understood."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] in ("-h", "--help"):
        print(usage())
        return 0 if argv else 2
    try:
        job = parse(argv)
    except (JobError, ValueError) as error:
        return complain(error, code=2)
    console.SPEAKER.job = " ".join(filter(None, (argv[0], getattr(job, "name", None))))
    module = importlib.import_module(f"jobs.{argv[0]}")
    return run(module, job)


def run(module: Any, job: Any) -> int:
    """Run a parsed job; a known error becomes one message instead of a traceback."""
    try:
        module.run(job)
    except KeyboardInterrupt:
        print("stopped; run the same command again to continue", file=sys.stderr)
        return 130
    except Exception as error:
        cause = failures.cause(error)
        if cause is None or os.environ.get("LAFORMER_TRACEBACK"):
            raise
        return complain(cause, code=1)
    return 0


def complain(error: Exception, *, code: int) -> int:
    """Print an error as one message and return the exit code."""
    console.complain(error)
    return code


def usage() -> str:
    """Return the list of verbs and recipes."""
    width = max(map(len, VERBS))
    verbs = "\n".join(f"  {name:<{width}}  {what}" for name, (_, what) in VERBS.items())
    return (
        f"{USAGE}verbs:\n{verbs}\n\nrecipes for train and tune: {', '.join(recipes.RECIPES)}\n"
        f"{recipes.DEBUG}NAME tries a recipe in six steps on a network of toy size\n"
        "LAFORMER_STORE says where runs live, LAFORMER_TRACEBACK=1 shows tracebacks,\n"
        "LAFORMER_LOG=json makes every line an object."
    )


def parse(argv: list[str]) -> Any:
    """Turn `VERB ...` into its job. Exits with 2 on what tyro does not understand."""
    verb, rest = argv[0], argv[1:]
    if verb not in VERBS:
        raise JobError(f"unknown verb {verb!r}; use one of: {', '.join(VERBS)}")
    if verb in ("train", "tune"):
        return parse_recipe(verb, rest)
    if verb == "submit":
        return parse_submit(rest)
    return tyro.cli(VERBS[verb][0], args=rest, prog=f"laformer {verb}")


def parse_recipe(verb: str, rest: list[str]) -> Any:
    """Parse `train RECIPE ...` or `train --job job.json ...`: values over a recipe's.

    A run has the recipe's name unless it is given one. `tune` takes the same and more.
    """
    if rest[:1] == ["--job"] and len(rest) > 1:
        path = rest[1]
        default, label, rest = recipes.from_json(job_text(path)), f"--job {path}", rest[2:]
    elif rest and not rest[0].startswith("-"):
        label, rest = rest[0], rest[1:]
        default = dataclasses.replace(recipes.recipe(label), name=label)
    elif rest and rest[0] in ("-h", "--help"):
        default, label = recipes.RECIPES["demo"], "RECIPE"
    else:
        raise JobError(f"{verb} needs a recipe: one of {', '.join(recipes.RECIPES)}")
    return tyro.cli(
        VERBS[verb][0],
        default=config.TuneJob(job=default) if verb == "tune" else default,
        args=rest,
        prog=f"laformer {verb} {label}",
        registry=staged(),
    )


def parse_submit(rest: list[str]) -> config.SubmitJob:
    """Parse `submit ... -- VERB ...`: what the cluster would not understand is refused here."""
    here = rest.index("--") if "--" in rest else len(rest)
    job = tyro.cli(config.SubmitJob, args=rest[:here], prog="laformer submit")
    words = tuple(rest[here + 1 :])
    if not words:
        raise JobError(
            "submit needs two dashes and a verb, for example: "
            "laformer submit --address http://head:8265 -- train denoise-gaussian"
        )
    parse(list(words))
    return dataclasses.replace(job, words=words)


def staged() -> ConstructorRegistry:
    """Return the rule by which stages are words on the command line."""
    registry = ConstructorRegistry()
    words = PrimitiveConstructorSpec(
        nargs="*",
        metavar="[STEP:PATCH_PX:BATCH ...]",
        instance_from_str=lambda found: tuple(map(stage_of, found)),
        is_instance=lambda value: isinstance(value, tuple),
        str_from_instance=lambda stages: [
            f"{stage.first_step}:{stage.patch_px}:{stage.global_batch}" for stage in stages
        ],
    )
    registry.primitive_rule(lambda asked: words if asked.type == tuple[Stage, ...] else None)
    return registry


def stage_of(word: str) -> Stage:
    """Return the stage that a word such as 92000:160:40 says."""
    numbers = word.split(":")
    if len(numbers) != 3 or not all(number.isdigit() for number in numbers):
        raise ValueError(f"stage {word} is not STEP:PATCH_PX:BATCH; use for example 92000:160:40")
    first_step, patch_px, global_batch = map(int, numbers)
    return Stage(first_step=first_step, patch_px=patch_px, global_batch=global_batch)


def job_text(path: str) -> str:
    """Return the text of a job file, here or in a bucket. Raises JobError when there is none."""
    if "://" in path:
        from pipelines import storage  # noqa: PLC0415 - heavy, and only a bucket needs it

        if storage.exists(path):
            return storage.get(path).decode()
    elif Path(path).is_file():
        return Path(path).read_text()
    raise JobError(f"no job file {path}; a run keeps its own as job.json")


if __name__ == "__main__":
    sys.exit(main())
