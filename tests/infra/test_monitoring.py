"""The board and the alerts speak of metrics that exist, and only of those."""

import json
import re
from pathlib import Path

import pytest
import yaml

from jobs.gauges import RESTORING, TRAINING
from pipelines import retries

FOLDER = Path(__file__).parents[2] / "infra" / "monitoring"
KNOWN = {f"ray_laformer_{name}" for name in TRAINING | RESTORING} | {f"ray_{retries.NAME}_total"}


@pytest.fixture(scope="module")
def board():
    return json.loads((FOLDER / "board.json").read_text())


@pytest.fixture(scope="module")
def rules():
    groups = yaml.safe_load((FOLDER / "alerts.yaml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def named(text):
    return set(re.findall(r"ray_laformer_\w+", text))


def test_the_board_shows_every_metric_and_no_other(board):
    shown = {
        name for panel in board["panels"] for t in panel["targets"] for name in named(t["expr"])
    }
    assert shown == KNOWN


def test_no_two_panels_lie_on_each_other(board):
    taken = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken
        taken |= cells
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])


def test_every_alert_speaks_of_known_metrics_and_says_what_to_do(rules):
    for rule in rules:
        assert named(rule["expr"])
        assert named(rule["expr"]) <= KNOWN
        assert {"summary", "next"} <= rule["annotations"].keys()
        assert rule["labels"]["severity"] in ("page", "ticket")
