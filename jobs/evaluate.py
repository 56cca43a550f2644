"""laformer evaluate: a model under named protocols, and what it scored per image."""

import sys

if __name__ == "__main__":
    from jobs import cli

    sys.exit(cli.main(["evaluate", *sys.argv[1:]]))

from jobs.cluster import connected
from jobs.config import EvaluateJob
from jobs.console import CONSOLE
from jobs.evaluation import pictures, results
from jobs.evaluation.contender import contender
from jobs.evaluation.perceptual import Besides, require_lpips
from jobs.evaluation.pristine import pristine
from jobs.evaluation.scoring import Score, measure, record
from jobs.evaluation.subjects import subjects
from jobs.page import Pair
from jobs.tracking import Tracker
from jobs.versions.registry import Registry
from pipelines import storage


def run(job: EvaluateJob) -> list[Score]:
    """Measure a model on every benchmark asked for, or list them all.

    Scores are kept with a registered version, and below --out with pictures.
    """
    if job.list:
        CONSOLE.print(results.listing(job.data))
        return []
    if job.lpips:
        require_lpips()
    besides = Besides(job.lpips, pristine(job.niqe) if job.niqe else None)
    model = contender(job.model)
    found = subjects(job, model)
    scores, shown = [], list[Pair]()
    with connected() as cluster:
        for chosen in found:
            scores.append(measure(chosen, model, cluster, besides))
            if model.version:
                record(Registry(), Tracker(), model.version, scores[-1])
            if job.out:
                shown += pictures.pairs(scores[-1], chosen, model, cluster, len(found))
    CONSOLE.print(results.table(str(model), scores))
    if job.out and besides.niqe:
        name = f"{besides.niqe.name}.npz"
        storage.put(storage.join(storage.absolute(job.out), name), besides.niqe.packed())
    if job.out:
        results.write(storage.absolute(job.out), model, scores, shown)
    return scores
