"""One huge photo by all actors of a job: each restores some of its rows, and these are joined.

The tiles where two shares meet are restored by both, so that the rows of a share are to the bit
what they are within the whole, and so is the joined file. Shares lie beside the receipts until the
job ends, each a TIFF of its own that is written whole: a job that was killed goes on with those
that are there.
"""

import hashlib
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Any, BinaryIO, Final

import pyarrow as pa
import pyarrow.compute as pc
import ray
import ray.data
from ray.data import ActorPoolStrategy

from pipelines import huge, storage, tiff, uploads
from pipelines.context import streaming
from pipelines.errors import ImageError
from pipelines.huge import Bands, Rows, Written
from pipelines.metadata import tiff_entries
from pipelines.mosaic import TILE_PX, Mosaic
from pipelines.receipts import Receipt
from pipelines.restoration import MAX_ATTEMPTS, Pool, RestoreActor, Stage, blank, located, refused

LEAST_ROWS: Final = 1024
"""A share has as many rows: a row of tiles or two where it meets another are restored twice."""


@dataclass(frozen=True)
class Shared:
    """A photo that several actors restore."""

    entry: dict[str, Any]
    """As it is listed."""
    height: int
    """Rows of the photo, upright."""
    width: int
    """Columns of the photo, upright."""
    shares: dict[str, Rows]
    """Rows of each share, from the top, by the name that it has below the target."""


def chosen(items: pa.Table, stage: Stage, actors: int) -> tuple[list[Shared], pa.Table]:
    """Return the huge photos that others would wait for, cut into shares, and the other items.

    One actor alone would be busy with such a photo for longer than its part of all the work: there
    are fewer of them than actors, so that asking for their sizes costs little.
    """
    found = []
    if stage.shares and actors > 1:
        large = pc.greater(pc.multiply(items["num_bytes"], actors), pc.sum(items["num_bytes"]))
        for entry in items.filter(large).to_pylist():
            size = size_of(entry, stage)
            cut = cuts(size[0], actors) if size else []
            if size and len(cut) > 1:
                names = {named(stage, entry, size, rows): rows for rows in cut}
                found.append(Shared(entry, *size, names))
    keys = pa.array([photo.entry["key"] for photo in found], pa.string())
    return found, items.filter(pc.invert(pc.is_in(items["key"], value_set=keys)))


def size_of(entry: dict[str, Any], stage: Stage) -> tuple[int, int] | None:
    """Return height and width of a huge photo that becomes a TIFF; None of any other."""
    if not str(entry["target_key"]).lower().endswith(huge.SUFFIXES):
        return None
    try:
        return huge.huge_size(located(stage, str(entry["key"])))
    except ImageError:
        return None


def cuts(height: int, actors: int) -> list[Rows]:
    """Return the rows of each share, which begins where a row of tiles of the file does."""
    num = max(1, min(actors, height // LEAST_ROWS))
    units = -(-height // TILE_PX)
    bounds = [min(height, TILE_PX * (i * units // num)) for i in range(num + 1)]
    return list(pairwise(bounds))


def named(stage: Stage, entry: dict[str, Any], size: tuple[int, int], rows: Rows) -> str:
    """Return the name of a share below the target; of another photo or version it is another."""
    told = "\0".join(map(str, (entry["key"], entry["etag"], size)))
    digest = hashlib.sha256(told.encode()).hexdigest()[:16]
    return f"{stage.shares}/{digest}/{rows[0]:010}-{rows[1]:010}.tif"


def rows_of(name: str) -> Rows:
    """Return the rows that a share's name says."""
    first, last = name.rpartition("/")[2].removesuffix(".tif").split("-")
    return int(first), int(last)


class ShareActor(RestoreActor):
    """Restores the rows that the name of a share says."""

    def rows(self, receipt: Receipt) -> Rows | None:
        """Return the rows of this share."""
        return rows_of(receipt.target_key)


def restored(photos: list[Shared], stage: Stage, pool: Pool) -> Iterator[dict[str, Any]]:
    """Yield a receipt of each photo as it is joined, or found to be bad."""
    started, there = time.perf_counter(), set(listed(stage.target, stage.shares))
    owners = {name: photo for photo in photos for name in photo.shares if name not in there}
    left = {photo.entry["key"]: len(photo.shares.keys() - there) for photo in photos}
    made: dict[str, list[dict[str, Any]]] = {key: [] for key in left}
    for photo in photos:
        if not left[photo.entry["key"]]:
            yield joined(photo, stage, [], time.perf_counter() - started)
    missing = [photo.entry | {"target_key": name} for name, photo in owners.items()]
    for receipt in stream(missing, stage, pool) if missing else ():
        photo = owners[receipt["target_key"]]
        done = made[photo.entry["key"]]
        done.append(receipt)
        if len(done) == left[photo.entry["key"]]:
            yield joined(photo, stage, done, time.perf_counter() - started)


def stream(items: list[dict[str, Any]], stage: Stage, pool: Pool) -> Iterator[dict[str, Any]]:
    """Yield a receipt per share as each is finished; an actor takes one at a time."""
    with streaming(target_max_block_size=1, max_consecutive_actor_init_deaths=MAX_ATTEMPTS):
        actors = min(pool.actors, len(items))
        made = ray.data.from_items(items, override_num_blocks=len(items)).map(
            ShareActor,
            fn_constructor_args=(stage,),
            compute=ActorPoolStrategy(size=actors, max_tasks_in_flight_per_actor=1),
            num_gpus=pool.gpus_per_actor or None,
        )
        yield from made.iter_rows()


def listed(target: str, shares: str) -> list[str]:
    """Return the shares that are there, by their names below the target."""
    folder = storage.join(target, shares)
    if not (storage.is_remote(folder) or storage.exists(folder)):
        return []
    keys = storage.list_table(folder, huge.SUFFIXES)["key"].to_pylist()
    return [f"{shares}/{key}" for key in keys]


def clear(target: str, shares: str) -> None:
    """Remove all shares: their photos have receipts."""
    for name in listed(target, shares):
        storage.delete(storage.join(target, name))


def joined(
    photo: Shared, stage: Stage, made: list[dict[str, Any]], seconds: float
) -> dict[str, Any]:
    """Return the receipt of a photo all shares of which are there, or one is bad."""
    receipt = replace(blank(photo.entry), seconds=seconds)
    bad = [each["reason"] for each in made if each["status"] == "bad"]
    if bad:
        return asdict(replace(receipt, reason=bad[0]))
    # Whoever joins needs no core: the actors hold all of them, and their work is done.
    try:
        written: Written = ray.get(ray.remote(num_cpus=0)(join).remote(photo, stage))
    except ImageError as error:  # of a share that somebody changed; the next start has none
        return asdict(refused(receipt, error))
    hows = sorted({each["how"] for each in made}) or ["tiles, begun before"]
    return asdict(
        replace(
            receipt,
            status="restored",
            how=f"{hows[-1]}, in {len(photo.shares)} shares",
            height=written.height,
            width=written.width,
            in_bytes=int(photo.entry["num_bytes"]),
            out_height=written.out_height,
            out_width=written.out_width,
            out_bytes=written.num_bytes,
            sha256=written.sha256,
            attempt=max((int(each["attempt"]) for each in made), default=1),
        )
    )


def join(photo: Shared, stage: Stage) -> Written:
    """Put the shares of a photo one below the other into its target, whole or not at all."""
    target = storage.join(stage.target, str(photo.entry["target_key"]))
    with uploads.scratch_file(target) as scratch:
        with scratch.open("wb") as file:
            mosaic = _filled(photo, stage, file)
        return Written(
            height=photo.height,
            width=photo.width,
            out_height=mosaic.height,
            out_width=mosaic.width,
            num_bytes=scratch.stat().st_size,
            sha256=huge.sha256_of(scratch),
            how="",
        )


def _filled(photo: Shared, stage: Stage, file: BinaryIO) -> Mosaic:
    """Write the tiles of all shares, and what each of them says of the whole."""
    uris = [storage.join(stage.target, name) for name in photo.shares]
    with uploads.local_copy(uris[0]) as path:
        first = Bands.of(path)
        width, with_alpha = first.page.width, first.has_alpha
        sides = (photo.height * width // photo.width, width)
        profile, said = first.rows(0, 1).profile, first.said.settled(*sides)
    mosaic = Mosaic(file, *sides, with_alpha=with_alpha)
    for uri in uris:
        with uploads.local_copy(uri) as path:
            page = Bands.of(path).page
            mosaic.append(_tiles(page), page.num_samples, page.bits)
    mosaic.close(profile, tiff_entries(said))
    return mosaic


def _tiles(page: tiff.Tiff) -> Iterator[bytes]:
    """Yield the tiles of a mosaic as they are packed."""
    places = (page.values(tag) for tag in (tiff.TILE_OFFSETS, tiff.TILE_BYTES))
    for at, num_bytes in zip(*places, strict=True):
        yield page.data[at : at + num_bytes]
