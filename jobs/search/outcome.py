"""What a search leaves: the best job, the results and the page, in its folder and in MLflow."""

from jobs import place, recipes
from jobs.console import say
from jobs.search import page as search_page
from jobs.search.findings import Findings
from jobs.search.journal import Record
from jobs.search.plan import Plan
from jobs.search.search import Search
from jobs.training.runs import JOB_FILE
from pipelines import storage

PAGE_FILE, RESULT_FILE = "search.html", "result.json"


def gathered(plan: Plan, search: Search) -> Findings:
    """Return what is known of a search."""
    return Findings(
        name=plan.name,
        recipe=plan.job.job,
        space=plan.space,
        objectives=plan.job.objectives,
        last_step=search.last_step,
        trials=plan.job.trials,
        records=tuple(record for _, record in sorted(search.records.items())),
    )


def documents(search: Search, found: Findings) -> dict[str, bytes]:
    """Return the best job and the page by file name; nothing before a trial is finished."""
    if not found.finished:
        return {}
    best = storage.join(search.journal.folder, JOB_FILE)
    return {
        JOB_FILE: recipes.to_json(found.best).encode(),
        PAGE_FILE: search_page.render(found, best).encode(),
    }


def conclude(plan: Plan, search: Search) -> Findings:
    """Write the best job, the results and the page; say where they are.

    Raises JobError when no trial is finished.
    """
    journal, found = search.journal, gathered(plan, search)
    winner = found.winner
    journal.write(RESULT_FILE, found.summary())
    files = documents(search, found)
    best, page = (storage.join(journal.folder, name) for name in (JOB_FILE, PAGE_FILE))
    if plan.job.page:
        page = storage.absolute(plan.job.page)
    storage.put(best, files[JOB_FILE])
    storage.put(page, files[PAGE_FILE])
    say(
        f"best is trial {winner.number} with {winner.psnr_db:.2f} dB; "
        f"{len(found.over)} trials took {found.device_hours:.2f} device-hours and "
        f"{found.step_fraction:.0%} of their steps"
    )
    say(f"page: {page}")
    say(f"train it: {place.in_shell('laformer', 'train', '--job', best)}")
    return found


def told(search: Search, record: Record) -> str:
    """Say how a trial ended."""
    done = sum(r.status != "running" for r in search.records.values())
    score = "" if record.psnr_db is None else f" with {record.psnr_db:.2f} dB"
    ends = {
        "finished": f"finished{score}",
        "stopped": f"stopped after {record.steps} of {search.last_step} steps{score}",
        "failed": f"failed: {record.error}",
    }
    best = search.best
    known = "" if best is None else f"; best is trial {best.number} with {best.psnr_db:.2f} dB"
    return f"{done} of {search.trials}: trial {record.number} {ends[record.status]}{known}"
