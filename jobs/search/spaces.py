"""Search spaces, values beside the recipes: what may change, and within which bounds.

    Entry("train.lr", Real(1e-4, 1e-2, log=True))         a field of the job, on a log scale
    Entry("model.dim", Choice((12, 16)), also=("model.head_dim",))      two fields, one value
    Entry("frequency", Real(0.01, 1.0), when=When("train.loss", ("charbonnier",)), form=...)

Names are those of the command line with underscores. Whoever searches draws the entries in their
order with `Space.draw`, so that an entry can depend on those before it. Standard library only.
"""

import dataclasses
import itertools
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias, get_type_hints

from jobs.config import TrainJob
from jobs.errors import JobError
from jobs.search.distributions import Choice, Distribution, Real
from laformer.config import SIZES

Values: TypeAlias = dict[str, Any]
"""A value for the name of each entry that takes part."""


Draw: TypeAlias = Callable[[str, Distribution], Any]
"""(name, distribution) -> value, by whatever searches."""


@dataclass(frozen=True)
class When:
    """The condition of an entry: an earlier one has one of some values."""

    name: str
    values: tuple[Any, ...]


@dataclass(frozen=True)
class Entry:
    """One thing that may change."""

    name: str
    """Its name, and the field of the job that takes the value unless `field` says another."""
    distribution: Distribution
    """Where values come from."""
    when: When | None = None
    """Takes part only then; always when None."""
    also: tuple[str, ...] = ()
    """Other fields of the job that take the same value."""
    field: str | None = None
    """The field that takes the value."""
    form: str | None = None
    """How the value is written into a field of text: "charbonnier + {:.3g} frequency"."""

    @property
    def fields(self) -> tuple[str, ...]:
        """Return the fields of the job that an entry sets."""
        return (self.field or self.name, *self.also)

    def written(self, value: Any) -> Any:
        """Return what the fields take."""
        return value if self.form is None else self.form.format(value)


@dataclass(frozen=True)
class Space:
    """Entries in their order."""

    entries: tuple[Entry, ...]

    def __post_init__(self) -> None:
        """Refuse two entries of one name, conditions on what is not known yet, unknown fields."""
        seen: dict[str, Entry] = {}
        for entry in self.entries:
            if entry.name in seen:
                raise ValueError(f"{entry.name} is in the space twice; leave one out")
            if entry.when is not None and entry.when.name not in seen:
                raise ValueError(
                    f"{entry.name} depends on {entry.when.name}, which is not before it; "
                    "put it there"
                )
            if entry.when is not None:
                for value in entry.when.values:
                    seen[entry.when.name].distribution.parse(value)
            for field in entry.fields:
                check_field(field)
            seen[entry.name] = entry

    def __getitem__(self, name: str) -> Entry:
        """Return an entry by its name."""
        return next(entry for entry in self.entries if entry.name == name)

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names in their order."""
        return tuple(entry.name for entry in self.entries)

    def only(self, names: tuple[str, ...]) -> "Space":
        """Return the space of some entries. Raises JobError naming what there is."""
        unknown = sorted(set(names) - set(self.names))
        if unknown:
            raise JobError(f"{unknown[0]} is not in the space; it has {', '.join(self.names)}")
        kept = tuple(entry for entry in self.entries if entry.name in names)
        for entry in kept:
            if entry.when is not None and entry.when.name not in names:
                raise JobError(
                    f"{entry.name} depends on {entry.when.name}; name that too, or leave both out"
                )
        return Space(kept)

    def draw(self, draw: Draw) -> Values:
        """Let `draw` choose a value for each entry whose condition holds, in their order."""
        values: Values = {}
        for entry in self.entries:
            if takes_part(entry, values):
                values[entry.name] = draw(entry.name, entry.distribution)
        return values

    def at_random(self, rng: random.Random) -> Values:
        """Draw each value by itself."""
        return self.draw(lambda _name, distribution: distribution.draw(rng))

    def grid(self, points: int) -> Iterator[Values]:
        """Yield all combinations, a range being cut into so many points."""
        options = [entry.distribution.grid(points) for entry in self.entries]
        seen: set[str] = set()
        for combination in itertools.product(*options):
            chosen = dict(zip(self.names, combination, strict=True))
            values = self.draw(lambda name, _, chosen=chosen: chosen[name])  # type: ignore[misc]
            if repr(values) not in seen:  # entries that take no part make no difference
                seen.add(repr(values))
                yield values

    def parse(self, values: Values) -> Values:
        """Return values that were read from JSON. Raises ValueError when they are of no trial."""
        return {name: self[name].distribution.parse(value) for name, value in values.items()}

    def near(self, values: Values, rng: random.Random, *, fresh: float = 0.25) -> Values:
        """Return values a little aside, each drawn anew with probability `fresh`.

        Only what can change during a run does: not the network, nor which samples come.
        """
        changed = dict(values)
        for name in values:
            entry = self[name]
            if all(field in MOVABLE for field in entry.fields):
                spot = entry.distribution
                anew = rng.random() < fresh
                changed[name] = spot.draw(rng) if anew else spot.near(values[name], rng)
        # Entries that take part now may be others: those of the run stay, new ones are drawn.
        return self.draw(lambda name, spot: changed[name] if name in changed else spot.draw(rng))

    def apply(self, job: TrainJob, values: Values) -> TrainJob:
        """Return a job with these values. Raises ValueError when its parts refuse them."""
        fields = {
            field: self[name].written(value)
            for name, value in values.items()
            for field in self[name].fields
        }
        for section in SECTIONS:
            own = {
                field.removeprefix(f"{section}."): value
                for field, value in fields.items()
                if field.startswith(f"{section}.")
            }
            if own:
                part = dataclasses.replace(getattr(job, section), **own)
                job = dataclasses.replace(job, **{section: part})
        return job

    def of(self, job: TrainJob) -> Values | None:
        """Return the values that a job has, or None when the space does not hold it."""

        def own(name: str, distribution: Distribution) -> Any:
            section, field = self[name].fields[0].split(".")
            return distribution.parse(getattr(getattr(job, section), field))

        try:
            values = self.draw(own)
            same = self.apply(job, values) == job
        except (TypeError, ValueError):
            return None
        return values if same else None


SECTIONS = ("model", "train", "data")
"""Parts of a job that a space may change."""
MOVABLE = tuple(
    f"train.{name}"
    for name in ("lr", "final_lr", "weight_decay", "betas", "clip_norm", "ema_decay", "loss")
)
"""Fields that may change in the middle of a run."""


def takes_part(entry: Entry, values: Values) -> bool:
    """Return whether the condition of an entry holds."""
    return entry.when is None or values.get(entry.when.name) in entry.when.values


def check_field(field: str) -> None:
    """Refuse a field that no job has."""
    section, _, name = field.partition(".")
    known = get_type_hints(TrainJob).get(section) if section in SECTIONS else None
    if known is None or name not in get_type_hints(known):
        raise ValueError(
            f"{field} is no field of a job's {', '.join(SECTIONS)}; use for example train.lr"
        )


SOLVER = (
    Entry("train.weight_decay", Real(1e-6, 1e-2, log=True)),
    Entry("train.betas", Choice(((0.9, 0.9), (0.9, 0.99), (0.9, 0.999)))),
    Entry("train.clip_norm", Real(0.1, 10.0, log=True)),
    Entry("train.loss", Choice(("charbonnier", "l1", "charbonnier + 0.05 frequency"))),
    Entry(
        "frequency",
        Real(0.01, 0.5, log=True),
        when=When("train.loss", ("charbonnier + 0.05 frequency",)),
        field="train.loss",
        form="charbonnier + {:.3g} frequency",
    ),
)
"""How weights are moved, whatever the size of the network."""
LAYERS = (
    Entry("model.phi", Choice(("elu", "relu"))),
    Entry("model.kernel", Choice((0, 3, 5, 7))),
    Entry("model.combination", Choice(("parallel", "alternating", "sequential", "spatial"))),
    Entry("model.expansion", Real(1.0, 3.0)),
)
"""What a block is made of, at about the same cost."""
SPACES: dict[str, Space] = {
    # The default of networks of minutes, such as `demo`.
    "tiny": Space(
        (
            Entry("train.lr", Real(1e-3, 2e-2, log=True)),
            Entry("train.ema_decay", Choice((0.95, 0.98, 0.99, 0.995))),
            *SOLVER,
            *LAYERS,
            Entry("model.dim", Choice((8, 12, 16, 24)), also=("model.head_dim",)),
            Entry("model.blocks", Choice(((1, 1, 1, 1), (1, 1, 1, 2), (1, 2, 2, 2), (2, 2, 2, 2)))),
        )
    ),
    # The default of all others.
    "base": Space(
        (
            Entry("train.lr", Real(5e-5, 2e-3, log=True)),
            Entry("train.ema_decay", Choice((0.99, 0.999, 0.9995, 0.9999))),
            *SOLVER,
            *LAYERS,
            Entry("model.dim", Choice((32, 48, 64)), also=("model.head_dim",)),
            Entry("model.blocks", Choice(((2, 3, 3, 4), (4, 6, 6, 8), (6, 8, 8, 10)))),
        )
    ),
    # The network stays as it is: what does the same computation better?
    "training": Space(
        (
            Entry("train.lr", Real(1e-4, 2e-2, log=True)),
            Entry("train.ema_decay", Choice((0.95, 0.98, 0.99, 0.995, 0.999))),
            *SOLVER,
        )
    ),
    # Patch and batch as well, for recipes of one stage; steps are of other sizes then.
    "samples": Space(
        (
            Entry("train.lr", Real(1e-4, 2e-2, log=True)),
            Entry("train.patch_px", Choice((32, 48, 64, 96, 128))),
            Entry("train.global_batch", Choice((2, 4, 8, 16, 32))),
            Entry("data.crops_per_visit", Choice((4, 8, 16, 32))),
        )
    ),
}
"""What is searched, one entry per family of recipes and kind of question."""


def find(name: str | None, job: TrainJob) -> Space:
    """Return a space by its name, or the default of a recipe. Raises JobError naming the known."""
    name = name or ("tiny" if job.model.dim < SIZES["small"].dim else "base")
    if name not in SPACES:
        raise JobError(f"unknown space {name!r}; use one of: {', '.join(SPACES)}")
    return SPACES[name]
