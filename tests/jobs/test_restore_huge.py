"""laformer restore of a TIFF that is too large to be held, by one actor and by two."""

import dataclasses
import os
import signal
from pathlib import Path

import numpy as np
import pytest

from jobs import restore
from jobs.config import RestoreJob
from laformer import checkpoint
from laformer.config import InferenceConfig
from pipelines import huge, images, shares
from pipelines.config import RestoreConfig
from pipelines.mosaic import Mosaic
from tests.networks import config, state

pytestmark = pytest.mark.ray
LIMIT = 60_000
"""Pixels above which a photo counts as too large here."""
ROWS = 256


@dataclasses.dataclass(frozen=True)
class LowLimit:
    """Loads what the stream calls into an actor for which small photos are too large."""

    loader: restore.LoadRestorer
    killed: str = ""
    """Marker of the one actor that dies in its second share; none dies without."""

    def __call__(self):
        images.MAX_PIXELS = LIMIT
        if self.killed:
            huge.restore_file = self.dying(huge.restore_file)
        return restore.LoadRestore(self.loader)()

    def dying(self, restore_file):
        def restored(source, target, parts, rows=None):
            if rows and rows[0] and not Path(self.killed).exists():
                Path(self.killed).touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return restore_file(source, target, parts, rows)

        return restored


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    checkpoint.save(folder / "0", state(config(), 0), {})
    return str(folder / "0")


@pytest.fixture
def low(monkeypatch):
    monkeypatch.setattr(images, "MAX_PIXELS", LIMIT)
    monkeypatch.setattr(shares, "LEAST_ROWS", ROWS)
    monkeypatch.setattr(restore, "LoadRestore", LowLimit)


def fill(folder, height=640, width=120):
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    with (folder / "huge.tif").open("wb") as file:
        whole = Mosaic(file, height, width)
        whole.write(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
        whole.close(None, {0: {}})
    small = images.Photo(pixels=rng.integers(0, 256, (40, 50, 3), dtype=np.uint8))
    (folder / "small.png").write_bytes(images.encode(small, ".png"))


def done(folder, model, actors):
    job = RestoreJob(
        source=str(folder / "in"),
        target=str(folder / f"by {actors}"),
        model=model,
        restore=RestoreConfig(actors=actors),
        inference=InferenceConfig(tile_px=128, overlap_px=16),
    )
    found = restore.run(job)
    assert (found.num_restored, found.num_bad) == (2, 0)
    assert not list((folder / f"by {actors}").rglob("shares/*/*"))
    return found, {
        key: (folder / f"by {actors}" / key).read_bytes() for key in ("huge.tif", "small.png")
    }


@pytest.mark.parametrize("dies", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_two_actors_make_the_bytes_that_one_makes_though_one_dies(
    cluster, model, low, tmp_path, monkeypatch, dies
):
    fill(tmp_path / "in")
    one, expected = done(tmp_path, model, 1)
    assert one.hows["tiles 128/16"] == 1
    marker = str(tmp_path / "killed") if dies else ""
    monkeypatch.setattr(restore, "LoadRestore", lambda loader: LowLimit(loader, marker))
    two, found = done(tmp_path, model, 2)
    assert (tmp_path / "killed").exists() == dies
    assert two.hows["tiles 128/16, in 2 shares"] == 1
    assert found == expected
    rows = {row["key"]: row for row in two.rows.to_pylist()}
    assert rows["huge.tif"]["attempt"] == 1 + dies
    assert (rows["huge.tif"]["height"], rows["huge.tif"]["out_width"]) == (640, 120)
    again = images.decode(found["huge.tif"], max_pixels=10**6)
    assert again.pixels.shape == (640, 120, 3)
