"""The demo, with photos of its user and a few steps: what `make demo PHOTOS=...` does."""

import dataclasses

import pytest

from jobs import demo, recipes
from jobs.config import DemoJob
from jobs.versions.registry import CHAMPION, Registry
from pipelines import images
from pipelines.images import Photo
from tests.networks import MODEL
from tests.pipelines.test_training import photo


@pytest.mark.ray
def test_every_verb_runs_and_one_page_comes_out(cluster, tmp_path, monkeypatch):
    monkeypatch.setenv("LAFORMER_STORE", str(tmp_path / "runs"))
    monkeypatch.setitem(
        recipes.RECIPES, "demo", dataclasses.replace(recipes.recipe("demo"), model=MODEL)
    )
    (tmp_path / "photos").mkdir()
    for i in range(5):
        data = images.encode(Photo(pixels=photo(i, size=(72, 80))), ".png")
        (tmp_path / "photos" / f"<b>{i}.png").write_bytes(data)
    (tmp_path / "photos" / "broken.jpg").write_bytes(b"no photo")
    page = demo.run(DemoJob(photos=str(tmp_path / "photos"), steps=30))
    assert page == tmp_path / "runs" / "demo" / "demo.html"
    html = page.read_text()
    assert "held-out-sigma25" in html
    assert "gaussian-colour" in html
    assert "<b>" not in html
    assert "restore my_photos/ restored/" in html
    champion = Registry().resolve(f"laformer-denoise-gaussian-25@{CHAMPION}")
    assert str(champion) in html
    assert champion.tags["step"] == "30"
