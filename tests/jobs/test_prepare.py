"""The audit as a person sees it."""

import pytest

from jobs import cli, prepare
from jobs.errors import JobError
from tests.pipelines.test_indexing import save


@pytest.mark.ray
def test_pairs_are_counted_and_named(cluster, tmp_path, capsys):
    gt, lq, uri = tmp_path / "gt", tmp_path / "lq", str(tmp_path / "m.parquet")
    for i in range(14):
        save(gt / f"a_GT_{i:02d}.png", seed=i)
    for i in range(3):
        save(lq / f"a_NOISY_{i:02d}.png", seed=i)
    save(lq / "left over.png")
    (lq / "a_NOISY_02.png").write_bytes(b"")
    rule = ["--lq", str(lq), "--match", "_GT_", "_NOISY_", "--manifest", uri]
    assert cli.main(["prepare", str(gt), *rule, "--holdout", "0.5"]) == 0
    out = capsys.readouterr().out
    assert f"1 pairs to train on, 1 held out, 13 bad: {uri}" in out
    assert "reading photos: 3 of 3 (1 bad)" in out
    assert "  bad, lq empty: 1\n    a_GT_02.png: lq a_NOISY_02.png: 0 bytes" in out
    assert "  bad, lq without gt: 1\n    left over.png: left over has no gt" in out
    assert "  bad, without lq: 11\n    a_GT_03.png: a_NOISY_03 is not below lq" in out
    assert "and 1 more: column `reason` of the manifest" in out


@pytest.mark.ray
def test_nothing_that_can_be_used_is_an_error(cluster, tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    job = cli.parse(["prepare", str(tmp_path), "--manifest", str(tmp_path / "m.parquet")])
    with pytest.raises(JobError, match=r"none of the 1 photos of .* can be used; see the reasons"):
        prepare.run(job)


def test_two_views_and_a_rule_are_understood():
    views = ["--lq", "left", "--lq", "right"]
    job = cli.parse(["prepare", "gt", *views, "--match", "sharp", "blur", "--scale", "4"])
    assert (job.photos, job.lq, job.match, job.scale) == (
        "gt",
        ("left", "right"),
        ("sharp", "blur"),
        4,
    )


def test_what_pairs_nothing_is_refused(capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["prepare", "gt", "--scale", "2"])
    assert stopped.value.code == 2
    assert "match and scale are about captured pairs" in capsys.readouterr().err
