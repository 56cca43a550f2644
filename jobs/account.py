"""What came of a restoration: every photo accounted for, in JSON and on a page."""

import dataclasses
import json
import time
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from jobs import checkpoints, place
from jobs.config import RestoreJob
from jobs.console import lasting, say
from jobs.errors import JobError
from jobs.page import Command, Page, render
from pipelines import receipts
from pipelines.receipts import Round
from pipelines.restoration import blank

SHOWN_BAD = 10
"""Bad photos that are named in the terminal."""
LISTED_BAD = 500
"""Bad photos that are named on the page; the JSON names all."""


@dataclass(frozen=True, kw_only=True)
class Account:
    """Totals of a job. Every listed photo is restored, bad or missing."""

    model: str
    """The version that restored."""
    num_listed: int
    """Photos of the source."""
    num_restored: int
    """Photos whose result is there, written now or by an earlier start of the same job."""
    num_bad: int
    """Photos with a reason instead of a result."""
    num_now: int
    """Photos restored by this start of the command."""
    megapixels: float
    """Of all photos that were read and restored, in millions of pixels."""
    megapixels_now: float
    """Of those restored by this start."""
    seconds: float
    """That this start took, with the start of its actors."""
    hows: dict[str, int]
    """Photos by the model's word on how it did them."""
    rows: pa.Table
    """A receipt of each photo that is restored or bad."""
    report: str = ""
    """uri of the page."""

    @property
    def num_missing(self) -> int:
        """Return how many photos have neither a result nor a reason."""
        return self.num_listed - self.num_restored - self.num_bad

    @property
    def bad(self) -> list[dict[str, Any]]:
        """Return key and reason of the bad photos."""
        rows = self.rows.filter(pc.not_equal(self.rows["status"], receipts.RESTORED))
        found: list[dict[str, Any]] = rows.select(["key", "reason"]).to_pylist()
        return found


def unread(item: dict[str, Any]) -> dict[str, Any]:
    """Return the receipt of a photo that is known to be bad before it is read."""
    return dataclasses.asdict(
        dataclasses.replace(blank(item), reason=str(item["reason"]), attempt=0)
    )


def close(job: RestoreJob, round_: Round, items: pa.Table, there: pa.Table) -> Account:
    """Compare what is stored with what was listed, write the report and say what is bad.

    Raises JobError when too many photos are bad, or one has neither a result nor a reason.
    """
    found = count(round_, items, there)
    reconciled = found.num_missing == 0
    facts = summary(job, round_, found)
    round_.store("report.json", json.dumps(facts | {"bad_photos": found.bad}, indent=2).encode())
    page = round_.store("report.html", render(page_of(job, facts, found)).encode())
    round_.say(finished=reconciled)
    for row in found.bad[:SHOWN_BAD]:
        say(f"  bad: {row['key']}: {row['reason']}")
    say(
        f"{found.num_restored} restored, {found.num_bad} bad, of {found.num_listed}: {job.target}; "
        f"report: {page}"
    )
    if found.num_bad > job.restore.max_bad_fraction * found.num_listed:
        raise JobError(
            f"{found.num_bad} of {found.num_listed} photos are bad, more than --max-bad-fraction "
            f"{job.restore.max_bad_fraction}; see the reasons above"
        )
    if not reconciled:
        raise JobError(
            f"{found.num_missing} of {found.num_listed} photos have no receipt; "
            "run the same command again"
        )
    return dataclasses.replace(found, report=page)


def count(round_: Round, items: pa.Table, there: pa.Table) -> Account:
    """Return the totals as storage has them: receipts, results, and the reasons of this start."""
    known = round_.parts.read()
    good = receipts.settled(known, items, there)
    now = pc.equal(known["run"], round_.ledger.run)
    bad = known.filter(pc.and_(now, pc.not_equal(known["status"], receipts.RESTORED)))
    bad = bad.filter(pc.is_in(bad["key"], value_set=items["key"].combine_chunks()))
    new = good.filter(pc.equal(good["run"], round_.ledger.run))
    hows = pc.value_counts(good["how"].combine_chunks()).to_pylist()
    return Account(
        model=round_.ledger.facts["model"],
        num_listed=items.num_rows,
        num_restored=good.num_rows,
        num_bad=bad.num_rows,
        num_now=new.num_rows,
        megapixels=_megapixels(good),
        megapixels_now=_megapixels(new),
        seconds=time.monotonic() - round_.ledger.began_s,
        hows={each["values"]: each["counts"] for each in hows if each["values"]},
        rows=pa.concat_tables([good, bad]),
    )


def _megapixels(rows: pa.Table) -> float:
    areas = pc.multiply(rows["height"].cast(pa.int64()), rows["width"].cast(pa.int64()))
    return float(pc.sum(areas).as_py() or 0) / 1e6


def summary(job: RestoreJob, round_: Round, found: Account) -> dict[str, Any]:
    """Return what the report says, for programs."""
    speed = max(1e-9, found.seconds)
    return {
        "job": round_.ledger.name,
        "run": round_.ledger.run,
        "facts": dict(round_.ledger.facts),
        "source": job.source,
        "target": job.target,
        "options": dataclasses.asdict(job.restore),
        "listed": found.num_listed,
        "restored": found.num_restored,
        "bad": found.num_bad,
        "missing": found.num_missing,
        "reconciled": found.num_missing == 0,
        "restored_now": found.num_now,
        "megapixels": round(found.megapixels, 3),
        "seconds_now": round(found.seconds, 3),
        "images_per_s": round(found.num_now / speed, 3),
        "megapixels_per_s": round(found.megapixels_now / speed, 3),
        "in_bytes": pc.sum(found.rows["in_bytes"]).as_py() or 0,
        "out_bytes": pc.sum(found.rows["out_bytes"]).as_py() or 0,
        "hows": found.hows,
    }


def flags(job: RestoreJob) -> list[str]:
    """Return the options that were given another value than they have by themselves."""
    words: list[str] = []
    for options in (job.restore, job.inference):
        for option in dataclasses.fields(options):
            value = getattr(options, option.name)
            if value != option.default and option.name != "overwrite":
                words.append(f"--{option.name.replace('_', '-')}")
                words += [] if value is True else [str(value)]
    return words


def page_of(job: RestoreJob, facts: dict[str, Any], found: Account) -> Page:
    """Return the page: totals, the bad photos with their reasons, how to go on."""
    bad = [(row["key"], row["reason"]) for row in found.bad[:LISTED_BAD]]
    if found.num_bad > LISTED_BAD:
        bad.append((f"and {found.num_bad - LISTED_BAD} more", "report.json names them all"))
    state = "all accounted for" if found.num_missing == 0 else f"{found.num_missing} missing"
    # A folder of weights has no name for the version that it holds now.
    model = job.model if job.model and checkpoints.named(job.model) else found.model
    words = ["restore", job.source, job.target, "--model", model, *flags(job)]
    return Page(
        title=f"{found.num_restored:,} photos restored",
        summary=(
            f"{found.num_listed:,} photos were listed in {job.source}: {found.num_restored:,} are "
            f"restored in {job.target}, {found.num_bad:,} are bad, {found.num_missing:,} have "
            f"neither result nor reason. {found.num_now:,} of them were done by the last start."
        ),
        facts=(
            ("model", found.model),
            ("totals", state),
            ("restored", f"{found.num_restored:,}, {found.megapixels:,.1f} MP"),
            ("bad", f"{found.num_bad:,}"),
            ("last start", lasting(found.seconds)),
            (
                "speed",
                f"{facts['images_per_s']:.2f} images/s, {facts['megapixels_per_s']:.2f} MP/s",
            ),
            *((f"done as {how}", f"{num:,}") for how, num in sorted(found.hows.items())),
            *((name, str(value)) for name, value in facts["options"].items() if value is not None),
        ),
        pairs=(),
        scores=(),
        curves=(),
        values=tuple(bad),
        values_heading="Bad photos",
        commands=(
            Command(
                title="Go on",
                command=place.in_shell("laformer", *words),
                explanation="Does what is missing, new, changed or was bad, and nothing else.",
            ),
        ),
    )
