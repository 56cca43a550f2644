"""The stream of a restoration: every image once, whatever becomes of actors and storage."""

import dataclasses
import hashlib
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pipelines import images, inventory, restoration, storage
from pipelines.admission import Attempts, Company, Room, Shared
from pipelines.errors import OutageError, StorageError
from pipelines.images import Photo
from pipelines.restoration import Pool, RestoreActor, Stage, blocks, patiently

KILLS, KILLS_ONCE, TOO_LARGE = 7, 3, 200
"""Levels of the images that are no plain ones."""


def photo(level, size=(24, 32)):
    return images.encode(Photo(pixels=np.full((*size, 3), level, np.uint8)), ".png")


@dataclasses.dataclass(frozen=True)
class Inverted:
    """Inverts; image 7 kills its process, image 3 does so the first time, one is too large."""

    marker: str

    def __call__(self):
        return self.restore

    def restore(self, pixels):
        level = int(pixels[0, 0, 0])
        if level == TOO_LARGE:
            raise MemoryError
        first = level == KILLS_ONCE and not Path(self.marker).exists()
        if first:
            Path(self.marker).touch()
        if first or level == KILLS:
            os.kill(os.getpid(), signal.SIGKILL)
        return 255 - pixels, "inverted"


def stage(folder, load, **options):
    fields = {"source": str(folder / "in"), "target": str(folder / "out"), "load": load}
    return Stage(**(fields | {"known": (MemoryError,)} | options))


def entry(key):
    return {"key": key, "target_key": key, "etag": "1", "num_bytes": 9}


@pytest.mark.ray
def test_a_stream_restores_every_image_once_though_actors_die(cluster, tmp_path):
    """One image is broken, one refused by the model, one kills once and one kills always."""
    for i in range(12):
        storage.put(f"{tmp_path}/in/{i:02}.png", photo(i))
    storage.put(f"{tmp_path}/in/broken.png", b"\x89PNG nothing")
    storage.put(f"{tmp_path}/in/sub/large.png", photo(TOO_LARGE, size=(64, 64)))
    items = inventory.take(f"{tmp_path}/in").table
    load = Inverted(str(tmp_path / "marker"))
    made = stage(tmp_path, load, attempts=Shared.start())
    found = list(restoration.restoration_stream(items, made, Pool(actors=1)))
    receipts = {row["key"]: row for row in found}
    assert len(found) == len(receipts) == 14
    bad = {key: row["reason"] for key, row in receipts.items() if row["status"] == "bad"}
    assert set(bad) == {"07.png", "broken.png", "sub/large.png"}
    assert "its actor died 3 times" in bad["07.png"]
    assert bad["sub/large.png"] == "MemoryError"
    for key in set(receipts) - set(bad):
        row, data = receipts[key], storage.get(f"{tmp_path}/out/{key}")
        assert row["sha256"] == hashlib.sha256(data).hexdigest()
        assert row["out_bytes"] == len(data)
        assert row["how"].startswith("inverted")
        assert (row["height"], row["out_width"]) == (24, 32)
        assert images.decode(data).pixels[0, 0, 0] == 255 - int(key[:2])


def test_an_image_is_read_while_another_is_restored(tmp_path):
    for i in range(3):
        storage.put(f"{tmp_path}/in/{i}.png", photo(i))
    read, go = [], threading.Event()

    def restore(pixels):
        read.append(int(pixels[0, 0, 0]))
        assert go.wait(30)
        return pixels, ""

    actor = RestoreActor(stage(tmp_path, lambda: restore))
    with ThreadPoolExecutor(3) as threads:
        waiting = [threads.submit(actor, entry(f"{i}.png")) for i in range(3)]
        deadline = time.monotonic() + 30
        while actor.decoded.used < 3 * 24 * 32 * 6 or not read:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert len(read) == 1  # the other two are decoded and wait for the network
        go.set()
        assert all(each.result()["status"] == "restored" for each in waiting)
    assert actor.decoded.used == actor.fetched.used == 0


def test_an_image_that_was_in_hand_when_an_actor_died_is_tried_alone():
    attempts = Attempts()
    assert attempts.begin("a", alone=False) == (0, None)
    assert attempts.begin("a", alone=False) == (1, None)  # begun before: alone first
    assert attempts.begin("a", alone=True) == (1, None)
    assert attempts.begin("a", alone=True) == (2, None)
    attempts.end("a", {"key": "a"})
    assert attempts.begin("a", alone=False) == (0, {"key": "a"})


def test_who_is_alone_waits_for_all_others_and_lets_none_in():
    company, seen = Company(), []

    def together(name):
        with company.together():
            seen.append(name)

    with ThreadPoolExecutor(2) as threads:
        with company.solitude():
            other = threads.submit(together, "other")
            seen.append("alone")
        other.result()
    assert seen == ["alone", "other"]


def test_what_is_larger_than_the_room_goes_through_alone():
    room = Room(10)
    with room.holding(100):
        assert room.used == 10
    with room.holding(4), room.holding(6):
        assert room.used == 10


def test_an_outage_is_waited_for_and_no_bad_image(monkeypatch):
    monkeypatch.setattr(restoration, "PAUSE_S", 0)
    away = [OutageError("away")] * 3

    def work():
        if away:
            raise away.pop()
        return "there"

    assert patiently(work, 60) == "there"
    with pytest.raises(OutageError):
        patiently(lambda: (_ for _ in ()).throw(OutageError("away")), 0)


def test_a_full_disk_ends_the_job_with_a_message(tmp_path, monkeypatch):
    storage.put(f"{tmp_path}/in/a.png", photo(1))
    actor = RestoreActor(stage(tmp_path, lambda: lambda pixels: (pixels, "")))

    def full(*_):
        raise StorageError("x: the disk is full or the quota used up; free space")

    monkeypatch.setattr(storage, "put", full)
    with pytest.raises(StorageError, match="the disk is full"):
        actor(entry("a.png"))


@pytest.mark.parametrize("num", [1, 5, 64, 1000, 100_000])
def test_tasks_become_smaller_and_hold_every_image_once_the_largest_first(num):
    rng = np.random.default_rng(0)
    sizes = rng.integers(1, 10**7, num)
    keys = [f"{i:06}" for i in range(num)]
    columns = [keys, keys, keys, sizes, [""] * num]
    items = pa.table(columns, schema=inventory.SCHEMA)
    cut = blocks(items, 2)
    joined = pa.concat_tables(cut)
    assert sorted(joined["key"].to_pylist()) == keys
    assert joined["num_bytes"][0].as_py() == sizes.max()
    assert cut[-1].num_rows == 1
    assert len(cut) <= num / restoration.ITEMS_PER_BLOCK + 250
    weights = [sum(block["num_bytes"].to_pylist()) for block in cut]
    assert max(weights) <= max(sizes.max(), sizes.sum() / 16 + 1)
