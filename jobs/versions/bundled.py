"""The champion of a task: the one in the registry, or the weights that come with the package."""

import json

from jobs.console import working
from jobs.errors import JobError
from jobs.tracking import Tracker
from jobs.versions.registry import CHAMPION, Registry, Version
from laformer import bundle, checkpoint

BUNDLED = "bundled"
"""Tag of a version that came with the package, and the name of its run."""


def champion(task: str, registry: Registry) -> Version:
    """Return the champion of a task; where there is none, the bundled weights become it.

    Raises JobError naming the tasks with bundled weights when there is neither.
    """
    found = registry.alias(f"laformer-{task}", CHAMPION)
    if found is not None:
        return found
    if task not in bundle.tasks():
        raise JobError(
            f"laformer-{task} has no champion in this registry, and no weights for it come with "
            f"the package (only for {', '.join(bundle.tasks()) or 'no task'}); train it with: "
            f"laformer train {task}"
        )
    with working(f"registering the bundled weights of {task}"):
        version = register(task, registry)
        registry.promote(version)
    return version


def register(task: str, registry: Registry) -> Version:
    """Register the bundled weights of a task as a version that says how they were trained."""
    folder = bundle.folder(task)
    checkpoint.verify(folder)
    facts = checkpoint.read_facts(folder)
    tags = {
        "task": task,
        "step": str(facts["step"]),
        "sha256": json.loads((folder / checkpoint.SUMS).read_text())[checkpoint.MODEL],
        "manifest_sha256": facts["samples"]["manifest"],
        "git_revision": facts["git_revision"],
        BUNDLED: "true",
    }
    tracker = Tracker(registry.uri)
    run_id = tracker.continue_run(f"laformer-{task}", f"{BUNDLED}/{tags['sha256'][:16]}", {})
    with tracker.ending(run_id):
        tracker.describe(run_id, {"git_revision": facts["git_revision"], BUNDLED: "true"})
        return registry.register(f"laformer-{task}", folder, run_id, tags)
