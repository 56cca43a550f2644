"""Where the images of a benchmark are, below the folder of all benchmarks."""

import io
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from pipelines import images, storage
from pipelines.benchmarks import BENCHMARKS
from pipelines.errors import DataError, OutageError, StorageError
from pipelines.families import Benchmark
from pipelines.inputs import Taken
from pipelines.pages import Entry


@dataclass(frozen=True)
class Places:
    """The images of a benchmark: one row of files for each input that is restored."""

    roots: tuple[str, ...]
    """Of gt, then of the views of lq that were taken; where lq is made, of gt alone."""
    rows: tuple[tuple[Entry, ...], ...]
    """Of each input, a file below each root."""


def places(benchmark: Benchmark, data: str) -> Places:
    """Find the images of a benchmark.

    Raises DataError, naming the folder, when there are none or an lq has no gt.
    """
    root = storage.join(data, benchmark.folder)
    clean = storage.list_entries(root, images.SUFFIXES)
    if not clean:
        raise DataError(f"no images in {root}; {benchmark.name} expects them there")
    match benchmark.degrade:
        case Taken() as taken:
            roots = (root, *(storage.join(data, folder) for folder in taken.folders))
            views = [storage.list_entries(each, images.SUFFIXES) for each in roots[1:]]
            rows = list(_paired(benchmark.name, taken, roots, (clean, *views)))
            return Places(roots, tuple(_chosen(benchmark.name, taken, data, rows)))
        case _:
            return Places((root,), tuple((entry,) for entry in clean))


def present(data: str, names: Iterable[str] = tuple(BENCHMARKS)) -> dict[str, int]:
    """Return how many inputs there are of each of these benchmarks that has any, by name.

    Raises OutageError when the folder cannot be listed.
    """
    found = {}
    for name in names:
        try:
            found[name] = len(places(BENCHMARKS[name], data).rows)
        except OutageError:
            raise
        except (DataError, StorageError):
            continue
    return found


def expected(benchmark: Benchmark) -> str:
    """Return the folders that a benchmark expects, gt first, and the file that chooses images.

    >>> expected(BENCHMARKS["csd"])
    'CSD/Gt + CSD/Snow'
    """
    names = [benchmark.folder]
    if isinstance(benchmark.degrade, Taken):
        names += [*benchmark.degrade.folders, benchmark.degrade.only]
    return " + ".join(filter(None, dict.fromkeys(names)))


def _paired(
    name: str, taken: Taken, roots: tuple[str, ...], files: tuple[list[Entry], ...]
) -> Iterator[tuple[Entry, ...]]:
    """Yield gt and its views. Raises DataError when a view is missing or names no gt."""
    clean, first, *others = files
    if taken.match:
        first = [entry for entry in first if re.search(taken.match[0], _stem(entry.key))]
    if not first:
        raise DataError(f"no lq in {roots[1]}; {name} expects them there")
    if taken.in_order:
        counts = [len(each) for each in (clean, first, *others)]
        if len(set(counts)) > 1:
            shown = ", ".join(f"{n} in {root}" for n, root in zip(counts, roots, strict=True))
            raise DataError(f"{name} pairs files in order, but there are {shown}; lay down all")
        yield from zip(clean, first, *others, strict=True)
        return
    by_stem = {_stem(entry.key): entry for entry in clean}
    lookups = [{_stem(entry.key): entry for entry in each} for each in others]
    for entry in first:
        stem = _stem(entry.key)
        wanted = re.sub(*taken.match, stem) if taken.match else stem
        if wanted not in by_stem:
            raise DataError(f"lq {entry.key} of {name} has no gt {wanted} in {roots[0]}; add it")
        missing = [at for at, known in zip(roots[2:], lookups, strict=True) if stem not in known]
        if missing:
            raise DataError(f"lq {entry.key} of {name} has no other view in {missing[0]}; add it")
        yield (by_stem[wanted], entry, *(known[stem] for known in lookups))


def _chosen(
    name: str, taken: Taken, data: str, rows: list[tuple[Entry, ...]]
) -> list[tuple[Entry, ...]]:
    """Return the images whose numbers a file lists. Raises DataError when the file is odd."""
    if not taken.only:
        return rows
    uri = storage.join(data, taken.only)
    try:
        numbers = np.load(io.BytesIO(storage.get(uri)), allow_pickle=False).ravel()
    except (ValueError, EOFError) as error:
        raise DataError(f"{uri} holds no numbers made by numpy.save: {error}") from error
    if not len(numbers) or numbers.min() < 1 or numbers.max() > len(rows):
        raise DataError(f"{uri} has numbers outside 1 to {len(rows)}, the images of {name}")
    return [rows[int(number) - 1] for number in numbers]


def _stem(key: str) -> str:
    return key.rpartition(".")[0]
