"""The ledger: whatever is killed between two writes, nothing is lost, repeated or mixed."""

import dataclasses
import hashlib
import io
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines import images, inventory, receipts, storage
from pipelines.parts import DAMAGED, Parts
from pipelines.receipts import SCHEMA, Ledger, Receipt

KEYS = tuple(f"{name}.png" for name in "abcdef")


def items(keys=KEYS, etag="1"):
    rows = [
        {"key": key, "target_key": key, "etag": etag, "num_bytes": 1, "reason": ""} for key in keys
    ]
    return pa.Table.from_pylist(rows, inventory.SCHEMA)


def ledger(target, model="m/1"):
    return Ledger(str(target), {"source": "/photos", "model": model})


def receipt(key, data=b"result", **fields):
    made = Receipt(key=key, target_key=key, etag="1", status="restored", out_bytes=len(data))
    made = dataclasses.replace(made, sha256=hashlib.sha256(data).hexdigest())
    return dataclasses.asdict(dataclasses.replace(made, **fields))


def finish(target, keys, data=b"result", model="m/1"):
    """Restore some images as a job would; return its round."""
    began = ledger(target, model).begin(again=False)
    for key in keys:
        storage.put(f"{target}/{key}", data)
    list(began.keep(receipt(key, data) for key in keys))
    return began


def settled(began, target, wanted=None):
    there = storage.list_table(str(target), images.SUFFIXES)
    found = receipts.settled(began.parts.read(), wanted or items(), there)
    return set(found["key"].to_pylist())


class Killed(BaseException):
    pass


class Mortal:
    """Storage that ends the process after a number of writes and deletions."""

    def __init__(self, patch, lives):
        self.lives = lives
        for name in ("put", "delete"):
            patch.setattr(storage, name, self.counted(getattr(storage, name)))

    def counted(self, work):
        def counting(*arguments):
            if self.lives == 0:
                raise Killed
            self.lives -= 1
            return work(*arguments)

        return counting


@settings(max_examples=20, deadline=None)
@given(lives=st.lists(st.integers(0, 9), min_size=1, max_size=6), part=st.integers(1, 3))
def test_whatever_is_killed_nothing_is_lost_or_done_twice_in_the_end(lives, part):
    with tempfile.TemporaryDirectory() as target, pytest.MonkeyPatch.context() as patch:
        patch.setattr(receipts, "PART_EVERY_S", -1.0)
        patch.setattr(receipts, "PARTS_OF_ONE", part)
        done = []
        for left in (*lives, 10_000):
            with patch.context() as mortal:
                Mortal(mortal, left)
                try:
                    run(target, done)
                except Killed:
                    continue
        began = ledger(target).begin(again=False)
        table = began.parts.read()
        assert sorted(table["key"].to_pylist()) == sorted(KEYS)
        assert settled(began, target) == set(KEYS)
        for row in table.to_pylist():
            data = storage.get(f"{target}/{row['target_key']}")
            assert hashlib.sha256(data).hexdigest() == row["sha256"]
        run(target, again := [])
        assert not again
        # What was in hand when it was killed is done again, and nothing else.
        assert len(done) <= len(KEYS) + 2 * len(lives)


def run(target, done):
    """Do what is not settled: store each result whole, then its receipt."""
    began = ledger(target).begin(again=False)
    known = began.parts.merge()
    there = storage.list_table(target, images.SUFFIXES)
    todo = receipts.without(items(), receipts.settled(known, items(), there))

    def work():
        for key in todo["key"].to_pylist():
            data = f"result of {key}".encode()
            done.append(key)
            storage.put(f"{target}/{key}", data)
            yield receipt(key, data)

    list(began.keep(work()))
    began.say(finished=True)


def test_a_truncated_part_is_set_aside_and_its_images_are_done_again(tmp_path):
    began = finish(tmp_path, KEYS[:2])
    [name] = began.parts.names()
    finish(tmp_path, KEYS[2:])
    path = Path(began.parts.folder) / name
    path.write_bytes(path.read_bytes()[:-9])
    parts = began.parts
    assert set(parts.merge()["key"].to_pylist()) == set(KEYS[2:])
    assert parts.damaged == [f"{path}{DAMAGED}"]
    assert settled(began, tmp_path) == set(KEYS[2:])
    assert Path(parts.damaged[0]).exists()
    assert not began.parts.damaged  # read once, named once


def test_what_changed_is_bad_or_is_gone_is_done_again(tmp_path):
    began = finish(tmp_path, KEYS)
    assert settled(began, tmp_path) == set(KEYS)
    assert settled(began, tmp_path, items(etag="2")) == set()
    (tmp_path / "a.png").unlink()
    (tmp_path / "b.png").write_bytes(b"resu")
    list(began.keep([receipt("c.png", status="bad", reason="no image")]))
    assert settled(began, tmp_path) == {"d.png", "e.png", "f.png"}
    (tmp_path / "d.png").write_bytes(b"RESULT")
    table = receipts.settled(
        began.parts.read(), items(), storage.list_table(str(tmp_path), images.SUFFIXES)
    )
    assert set(receipts.intact(table, str(tmp_path))["key"].to_pylist()) == {"e.png", "f.png"}


def test_receipts_of_a_version_with_fewer_columns_still_count(tmp_path):
    began = ledger(tmp_path).begin(again=False)
    storage.put(f"{tmp_path}/a.png", b"result")
    old = {"key": "a.png", "target_key": "a.png", "etag": "1", "status": "restored"}
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([old]), buffer)
    storage.put(f"{began.parts.folder}/part-{1:020d}.parquet", buffer.getvalue())
    assert settled(began, tmp_path) == {"a.png"}


def test_parts_of_a_long_job_are_merged_and_the_newest_receipt_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(receipts, "PART_EVERY_S", -1.0)
    began = ledger(tmp_path).begin(again=False)
    rows = [receipt(f"{i % 7}.png", out_bytes=i) for i in range(100)]
    list(began.keep(rows))
    assert len(began.parts.names()) <= 100 // receipts.PARTS_OF_ONE + receipts.PARTS_OF_ONE
    table = began.parts.merge()
    assert len(began.parts.names()) == 1
    assert sorted(table["out_bytes"].to_pylist()) == list(range(93, 100))


def test_a_finished_job_begins_anew_only_when_asked_and_a_killed_one_goes_on(tmp_path):
    began = finish(tmp_path, KEYS)
    assert ledger(tmp_path).begin(again=True).name == began.name  # it was killed
    began.say(finished=True)
    assert ledger(tmp_path).begin(again=False).name == began.name
    fresh = ledger(tmp_path).begin(again=True)
    assert fresh.name != began.name
    assert fresh.parts.read().num_rows == 0
    assert not began.parts.names()
    assert ledger(tmp_path).begin(again=True).name == fresh.name


def test_a_name_belongs_to_one_job_at_a_time(tmp_path):
    first = finish(tmp_path, KEYS)
    second = ledger(tmp_path, model="m/2")
    assert not first.ledger.others(items()["target_key"])
    [claim] = second.others(items(KEYS[:2])["target_key"])
    assert claim.model == "m/1"
    assert set(claim.rows["key"].to_pylist()) == set(KEYS[:2])
    claim.release()
    assert not second.others(items(KEYS[:2])["target_key"])
    assert settled(first, tmp_path) == set(KEYS[2:])


def test_a_column_is_there_for_everything_a_receipt_says():
    said = {field.name for field in dataclasses.fields(Receipt)}
    assert said | {"model", "source", "run"} == set(SCHEMA.names)


@pytest.mark.s3
def test_parts_live_in_a_bucket_too(s3):
    parts = Parts(f"{s3}/ledger", SCHEMA)
    assert parts.read().num_rows == 0
    for key in KEYS:
        parts.write(pa.Table.from_pylist([receipt(key)], SCHEMA))
    assert parts.merge().num_rows == len(KEYS)
    assert len(parts.names()) == 1
