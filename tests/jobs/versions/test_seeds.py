"""The spread of seeds: which versions it is taken from, and what the gate makes of it."""

import dataclasses
import math

import pytest

from jobs import promote, recipes
from jobs.config import PromoteJob
from jobs.versions import seeds
from jobs.versions.gate import Gain, Least, seed_check
from jobs.versions.registry import Listed, Version
from jobs.versions.seeds import RECIPE, SEED, Spread, spread

FACTS = {"samples": {"manifest": "feed"}, "init": None}
DEMO = recipes.recipe("demo")


def version(number, seed, psnr_db, *, recipe="a", images="x"):
    tags = {SEED: str(seed), RECIPE: recipe, "psnr_db.b": str(psnr_db)}
    return Version("m", number, "run", tags | {"images.b": images, "protocol.b": "p"})


def tags(**options):
    job = dataclasses.replace(DEMO, train=dataclasses.replace(DEMO.train, **options))
    return seeds.tags(job, FACTS)


def test_a_recipe_is_all_that_was_trained_but_the_seed():
    first, second = tags(seed=0), tags(seed=1)
    assert (first[SEED], second[SEED]) == ("0", "1")
    assert first[RECIPE] == second[RECIPE]
    assert tags(accumulate=2)[RECIPE] == first[RECIPE]
    assert tags(lr=1e-5)[RECIPE] != first[RECIPE]
    for values in ({"name": "other"}, {"candidate": False}, {"manifest": ("/moved.parquet",)}):
        assert seeds.tags(dataclasses.replace(DEMO, **values), FACTS) == first
    others = ({"samples": {"manifest": "beef"}}, {"init": {"sha256": "1"}})
    assert all(seeds.tags(DEMO, FACTS | other)[RECIPE] != first[RECIPE] for other in others)


def test_versions_that_differ_in_their_seed_alone_have_a_spread():
    champion, other = version(1, 0, 30.0), version(2, 1, 30.2)
    candidate = version(3, 0, 30.5, recipe="b")
    found = spread([champion, other, candidate], candidate, champion, "b")
    assert found.psnr_db == pytest.approx(0.2 / math.sqrt(2))
    assert found.source == "m/1, m/2"
    again = version(4, 1, 30.7, recipe="b")
    pooled = spread([champion, other, candidate, again], candidate, champion, "b")
    assert pooled.psnr_db == pytest.approx(0.2 / math.sqrt(2))
    assert pooled.source == "m/1, m/2, m/3, m/4"


def test_what_was_measured_otherwise_or_trained_otherwise_says_nothing_of_seeds():
    champion, candidate = version(1, 0, 30.0), version(2, 0, 30.5, recipe="b")
    others = [version(3, 1, 30.1, images="y"), version(4, 1, 30.1, recipe="c")]
    unknown = Version("m", 5, "run", {"psnr_db.b": "31"})
    assert spread([champion, candidate, *others, unknown], candidate, champion, "b") is None
    # The same seed twice is one seed, the newer one.
    twice = [champion, version(6, 0, 29.0), version(7, 1, 29.0)]
    assert spread(twice, candidate, champion, "b") == Spread(0.0, "m/6, m/7")


def test_a_second_seed_of_the_champions_recipe_is_no_gain():
    first, second = version(1, 0, 30.0), version(2, 1, 31.0)
    gain = Gain(mean_db=1.0, low_db=0.9, high_db=1.1, num_images=9)
    check = seed_check("b", gain, Least(0.0, spread([first, second], second, first, "b")))
    assert not check.holds
    assert "+1.000 dB; spread 0.707 dB (m/1, m/2)" in check.found


def test_a_gain_is_beyond_what_is_asked_for_and_the_spread():
    gain = Gain(mean_db=0.5, low_db=0.4, high_db=0.6, num_images=9)
    check = seed_check("b", gain, Least(0.1, Spread(0.1, "stated")))
    assert check.holds
    assert check.rule == "above 0.1 dB + 2.8 spreads = 0.383 dB"
    assert not seed_check("b", gain, Least(0.3, Spread(0.1, "stated"))).holds
    unknown = seed_check("b", gain, Least(0.1))
    assert unknown.holds
    assert unknown.found == "spread unknown (1 seed)"


class Family:
    """A registry of two seeds of a recipe."""

    def versions(self, name):
        return [Listed(version(n, n, 30.0 + n), (), 0.0) for n in (1, 2)]


def test_a_stated_spread_counts_before_a_measured_one():
    known, ours = version(1, 1, 31.0), version(2, 2, 32.0)
    stated = PromoteJob(name="m", seed_spread_db=0.05)
    assert promote.spread_of(stated, Family(), ours, known, "b") == Spread(0.05, "stated")
    job = PromoteJob(name="m")
    assert promote.spread_of(job, Family(), ours, known, "b").source == "m/1, m/2"
    assert promote.spread_of(job, Family(), ours, None, "b") is None
    with pytest.raises(ValueError, match=r"seed_spread_db -1.0 is no spread"):
        PromoteJob(name="m", seed_spread_db=-1.0)
