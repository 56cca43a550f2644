"""The gate: what it asks, what it says when it refuses, and the way back."""

import dataclasses
import doctest
import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from mlflow.exceptions import MlflowException

from jobs import cli, promote
from jobs.config import PromoteJob
from jobs.errors import JobError
from jobs.evaluation.scoring import Measure, Score, record
from jobs.evaluation.subjects import Subject
from jobs.tracking import Tracker
from jobs.versions import gate, inspection
from jobs.versions.gate import Check, Gain, Least, score_checks
from jobs.versions.inspection import Photos, colour_shift, picture_checks, time_checks
from jobs.versions.registry import CANDIDATE, CHAMPION, PREVIOUS, Registry, Version
from laformer import checkpoint
from laformer.errors import ModelError
from laformer.restore import Restorer
from pipelines import images
from pipelines.images import Photo
from pipelines.tasks import TASKS
from tests.networks import config, state
from tests.pipelines.test_training import photo

GATE = TASKS["denoise-gaussian-25"].gate

KEYS = [f"{n}.png" for n in range(20)]
HARD = {key: 25.0 + n % 7 for n, key in enumerate(KEYS)}
"""PSNR in dB of the champion: photos differ by far more than the versions do."""


class Scores:
    """A tracker that has the scores of images by the name of their file."""

    def __init__(self, **files):
        self.files = files

    def artifact(self, run_id, path):
        buffer = io.BytesIO()
        scores = self.files[f"v{path.split('-v')[1].removesuffix('.parquet')}"]
        rows = [{"key": key, "psnr_db": value} for key, value in scores.items()]
        pq.write_table(pa.Table.from_pylist(rows), buffer)
        return buffer.getvalue()


def version(number, psnr_db=None, input_db=20.0, **facts):
    tags = {"images.b": "a", "protocol.b": "rule"} | {f"{k}.b": v for k, v in facts.items()}
    if psnr_db is not None:
        tags |= {"psnr_db.b": str(psnr_db), "input_psnr_db.b": str(input_db)}
    return Version("m", number, "run", tags)


def better(by):
    """Return scores that are better than HARD by this mean in dB, more on some photos."""
    return {key: value + by + 0.02 * (-1) ** n for n, (key, value) in enumerate(HARD.items())}


def checked(candidate, champion, theirs=HARD, ours=None, least=0.0, spread=None):
    scores = Scores(v1=theirs, v2=ours or better(0.1))
    return list(score_checks(scores, candidate, champion, "b", Least(least, spread)))


def test_a_small_gain_on_every_photo_is_beyond_chance_and_a_gain_on_some_is_not():
    steady = Gain.of(better(0.03), HARD)
    assert steady.low_db > 0
    assert steady.mean_db == pytest.approx(0.03)
    rng = np.random.default_rng(1)
    scattered = {key: value + rng.normal(0.03, 1) for key, value in HARD.items()}
    assert Gain.of(scattered, HARD).low_db < 0
    assert Gain.of(HARD, HARD) == Gain(0.0, 0.0, 0.0, len(KEYS))
    assert Gain.of(better(0.03), HARD) == steady
    exact = HARD | {KEYS[0]: np.inf}
    assert Gain.of(exact, exact).mean_db == 0


def test_a_candidate_that_beats_input_and_champion_holds():
    assert [c.holds for c in checked(version(1, 27.0), None)] == [True]
    checks = checked(version(2, 28.0), version(1, 27.9))
    assert [c.holds for c in checks] == [True, True, True]
    assert checks[-1].found == "spread unknown (1 seed)"
    assert "b, rule, gain over m/1" in str(checks[1])


@pytest.mark.parametrize(
    ("candidate", "champion", "message"),
    [
        (version(2), None, "m/2 was not measured on b; run: laformer evaluate --model m/2"),
        (version(2, 19.0), None, "19.00 dB, the rule is above the 20.00 dB of its degraded input"),
        (version(2, 28.0), version(1), "m/1 was not measured on b"),
        (version(2, 28.0), version(1, 27.0, images="c"), "m/1 was measured on other photos"),
        (version(2, 28.0), version(1, 27.0, protocol="x"), "measured under another protocol"),
    ],
)
def test_the_gate_refuses_with_the_numbers(candidate, champion, message):
    failed = [str(check) for check in checked(candidate, champion) if not check.holds]
    assert len(failed) == 1
    assert message in failed[0]


def test_a_gain_below_the_one_that_is_asked_for_is_refused():
    _, check, _ = checked(version(2, 28.0), version(1, 27.9), least=0.2)
    assert not check.holds
    assert "+0.100 dB (+0.0" in check.found
    assert "above 0.2 dB" in check.rule


class Network:
    """Restores by a function, on what could be any device."""

    def __init__(self, function):
        self.function = function
        self.device = type("Device", (), {"type": "cpu"})()
        config = type("Config", (), {"in_channels": 3})()
        self.model = type("Model", (), {"config": config})()

    def __call__(self, image):
        return self.function(image)


def photos():
    rng = np.random.default_rng(0)
    clean = tuple(rng.integers(40, 200, (3, 12, 12, 3), dtype=np.uint8))
    return Photos(clean, tuple((image / 255 - 0.2).astype(np.float32) for image in clean))


def cast(image):
    return image if image.dtype != np.uint8 else np.minimum(image, 249) + np.uint8([0, 0, 6])


def refuse(image):
    raise ModelError("the restored image has values that are no numbers; nothing written")


@pytest.mark.parametrize(
    ("function", "task", "holds"),
    [
        (lambda image: image, "jpeg", [True, True]),
        (cast, "jpeg", [True, False]),
        (refuse, "jpeg", [False]),
        (lambda image: image, "lowlight", [True, False]),  # left dark
        (lambda image: image + 0.2 if image.dtype == np.float32 else image, "lowlight", [True] * 2),
    ],
)
def test_a_network_keeps_colours_and_gives_numbers(function, task, holds):
    checks = list(picture_checks(Network(function), task, photos(), 4.0))
    assert [check.holds for check in checks] == holds


def test_the_shift_is_of_one_channel_in_levels_whatever_the_dtype():
    wide = np.full((4, 4, 3), 257 * 100, np.uint16)
    floats = np.full((8, 8, 3), 101 / 255, np.float32)
    assert colour_shift([wide, floats], [np.full((4, 4, 3), 100, np.uint8)]) == pytest.approx(
        [0.5] * 3, abs=1e-4
    )


def test_time_is_measured_in_turn_and_only_when_it_is_asked_for(monkeypatch):
    assert list(time_checks(Network(refuse), None, most_ms=None, most_times=None)) == []
    assert list(time_checks(Network(refuse), None, most_ms=None, most_times=2.0)) == []
    now = [0.0]
    monkeypatch.setattr(inspection.time, "perf_counter", lambda: now[0])

    def taking(seconds):
        def restore(image):
            now[0] += seconds * image.shape[0] * image.shape[1] / 1e6

        return Network(restore)

    checks = list(time_checks(taking(0.3), taking(0.2), most_ms=250, most_times=2.0))
    assert [check.holds for check in checks] == [False, True]
    assert checks[0].found == "300 ms, the champion 200 ms"
    assert checks[1].found == "1.50 times"


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return tmp_path_factory.mktemp("store")


@pytest.fixture
def registry(store, monkeypatch):
    """Have three versions; the first is the candidate."""
    monkeypatch.setenv("LAFORMER_STORE", str(store))
    registry = Registry()
    run_id = Tracker().continue_run("e", "store/train/r", {})
    registry.client.create_registered_model("m")
    for number in (1, 2, 3):
        registry.client.create_model_version("m", str(store / str(number)), run_id=run_id)
    nominate(registry, 1)
    yield registry
    registry.client.delete_registered_model("m")


def nominate(registry, number, name="m"):
    registry.nominate(registry.resolve(f"{name}/{number}"))


def aliases(registry):
    found = {name: registry.alias("m", name) for name in (CANDIDATE, CHAMPION, PREVIOUS)}
    return {name: version.number for name, version in found.items() if version}


def decide(monkeypatch, *checks):
    monkeypatch.setattr(promote, "all_checks", lambda *_: checks)


HOLDS = Check(what="score", found="30 dB", rule="above 20 dB", holds=True)
FAILS = Check(what="colour", found="9 levels", rule="at most 4", holds=False, act="train longer")


def test_promoting_and_rolling_back_twice_is_once(registry, monkeypatch, capsys):
    decide(monkeypatch, HOLDS)
    with pytest.raises(JobError, match="no model 'm@champion'"):
        promote.run(PromoteJob(name="m", rollback=True))
    promote.run(PromoteJob(name="m"))
    assert aliases(registry) == {CANDIDATE: 1, CHAMPION: 1}
    with pytest.raises(JobError, match="m/1 is the first champion of m, there is none to return"):
        promote.run(PromoteJob(name="m", rollback=True))
    nominate(registry, 2)
    promote.run(PromoteJob(name="m"))
    for _ in range(2):
        assert promote.run(PromoteJob(name="m")).number == 2
    assert aliases(registry) == {CANDIDATE: 2, CHAMPION: 2, PREVIOUS: 1}
    for _ in range(2):
        assert promote.run(PromoteJob(name="m", rollback=True)).number == 1
    assert aliases(registry) == {CANDIDATE: 2, CHAMPION: 1, PREVIOUS: 1}
    assert "it was returned to before" in capsys.readouterr().out
    nominate(registry, 3)
    promote.run(PromoteJob(name="m"))
    assert aliases(registry) == {CANDIDATE: 3, CHAMPION: 3, PREVIOUS: 1}


def test_what_was_rolled_back_comes_back_only_with_insistence(registry, monkeypatch):
    for number in (1, 2):
        registry.promote(registry.resolve(f"m/{number}"))
    registry.roll_back("m")
    nominate(registry, 2)
    monkeypatch.setattr(promote, "score_checks", lambda *_: iter([]))
    for name in ("task_of", "gate_of", "subject", "load"):
        monkeypatch.setattr(promote, name, lambda *_: None)
    monkeypatch.setattr(promote.Photos, "of", lambda *_: photos())
    monkeypatch.setattr(promote, "picture_checks", lambda *_: iter([HOLDS]))
    registry.tag(registry.resolve("m/2"), {"task": "jpeg"})
    with pytest.raises(JobError, match=r"m/2 was champion and was rolled back.*with --again"):
        promote.run(PromoteJob(name="m"))
    promote.run(PromoteJob(name="m", again=True))
    assert registry.resolve("m/2").tags["rolled_back"] == "false"
    assert aliases(registry) == {CANDIDATE: 2, CHAMPION: 2, PREVIOUS: 1}


def register(registry, folder, seed):
    """Register a network of random weights, measured on the photos of a folder."""
    checkpoint.save(folder / f"c{seed}", state(config(), seed), {})
    checkpoint.release(folder / f"c{seed}", folder / f"r{seed}")
    run_id = Tracker().continue_run("e", f"store/train/{seed}", {})
    tags = {"task": "denoise-gaussian-25", "sha256": str(seed)}
    version = registry.register("whole", folder / f"r{seed}", run_id, tags)
    subject = photographed(folder)
    measure = Measure(subject, lambda: Restorer.load(folder / f"r{seed}"))
    pairs = zip(subject.keys, subject.sizes, strict=True)
    rows = [measure({"keys": list(keys), "sizes": list(sizes)}) for keys, sizes in pairs]
    score = Score(benchmark=GATE.name, protocol=GATE.protocol.name, digest="a", rows=tuple(rows))
    record(registry, Tracker(), version, score)
    # Random weights are no better than their input: what is tested is the way.
    registry.tag(version, {f"input_psnr_db.{GATE.name}": "1.0"})
    registry.nominate(version)
    return version


def photographed(folder):
    paths = sorted(folder.glob("*.png"))
    keys, sizes = ((path.name,) for path in paths), ((path.stat().st_size,) for path in paths)
    return Subject(GATE, (str(folder),), tuple(keys), tuple(sizes), "a")


def test_two_networks_are_compared_by_what_they_do(registry, tmp_path, monkeypatch, capsys):
    for seed in range(3):
        data = images.encode(Photo(pixels=photo(seed, size=(40, 52))), ".png")
        (tmp_path / f"{seed}.png").write_bytes(data)
    monkeypatch.setattr(promote, "subject", lambda *_: photographed(tmp_path))
    scores = {}
    for seed in (1, 2):
        version = register(registry, tmp_path, seed)
        scores[seed] = float(registry.resolve(str(version)).tags[f"psnr_db.{GATE.name}"])
    best, worst = sorted(scores, key=scores.get, reverse=True)
    job = PromoteJob(name="whole", max_colour_shift=255, max_slowdown=1000)
    nominate(registry, best, "whole")
    assert promote.run(job).number == best
    nominate(registry, worst, "whole")
    with pytest.raises(JobError, match=rf"1 of 6 checks .*gain over whole/{best}: -"):
        promote.run(job)
    shown = capsys.readouterr().out
    assert "finite" in shown
    assert "champion's" in shown
    with pytest.raises(JobError, match="colour of 3 clean photos"):
        promote.run(dataclasses.replace(job, max_colour_shift=1e-6))
    registry.client.delete_registered_model("whole")


def test_a_refusal_shows_every_check_and_the_command_fails(registry, monkeypatch, capsys):
    decide(monkeypatch, HOLDS, FAILS)
    assert cli.main(["promote", "m"]) == 1
    out, err = capsys.readouterr()
    assert "above 20 dB" in out
    assert "NO" in out
    assert "m/1 is not promoted, 1 of 2 checks do not hold: colour: 9 levels" in err
    assert "train longer" in err
    assert aliases(registry) == {CANDIDATE: 1}


def test_a_public_benchmark_is_measured_with_its_folder():
    checks = score_checks(Scores(), version(2), None, "cbsd68-sigma25", Least())
    assert "--model m/2 --benchmark cbsd68-sigma25 --data FOLDER" in str(next(checks))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_slowdown": 0.0}, "max_slowdown 0 is not positive"),
        ({"min_gain_db": float("nan")}, "min_gain_db nan is no number"),
        ({"again": True, "rollback": True}, "leave --again out"),
    ],
)
def test_a_gate_that_nothing_holds_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        PromoteJob(name="m", **options)


def test_the_examples_run():
    assert doctest.testmod(gate).failed == doctest.testmod(inspection).failed == 0


def test_a_registry_that_is_away_is_not_a_registry_without_a_champion(monkeypatch, tmp_path):
    registry = Registry(f"sqlite:///{tmp_path / 'mlflow.db'}")
    assert registry.alias("m", "champion") is None

    def away(*_):
        raise MlflowException("database is locked")

    monkeypatch.setattr("mlflow.tracking.MlflowClient.get_model_version_by_alias", away)
    with pytest.raises(JobError, match="cannot be reached"):
        registry.alias("m", "champion")
