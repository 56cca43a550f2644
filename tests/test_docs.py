"""What README and guide tell people to type is parsed by the command line itself."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from jobs import cli, demo
from jobs.config import DemoJob
from laformer import checkpoint
from pipelines import shards
from tests import networks

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def commands():
    """Return (page, command) for each line after a prompt, continuation lines joined."""
    found = []
    for page in PAGES:
        text = page.read_text().replace("\\\n", " ")
        for block in re.findall(r"```console\n(.*?)```", text, re.DOTALL):
            lines = re.findall(r"^\$ (.*)$", block, re.MULTILINE)
            found += [(page.name, line.split("  #")[0].strip()) for line in lines]
    return found


@pytest.mark.parametrize(("page", "command"), commands())
def test_a_command_of_the_docs_is_understood(page, command):
    words = shlex.split(command)
    if words[0] == "laformer":
        if "--job" in words:  # a run writes its file
            assert words[1] == "train"
        else:
            cli.parse(words[1:])
    elif words[:3] == ["ray", "job", "submit"]:
        entry = words[words.index("--") + 1 :]
        assert entry[:2] == ["python", "-m"]
        cli.parse([entry[2].removeprefix("jobs."), *entry[3:]])
    elif words[0] == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert words[1] in targets
    else:
        assert words[0] in ("export", "mlflow"), command


def test_the_python_of_the_guide_runs(tmp_path, monkeypatch, capsys):
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs/guide.md").read_text(), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    checkpoint.save(Path("runs/train/first/step_00020000"), networks.state(networks.config()), {})
    Path("shards").mkdir()
    data, _ = shards.bind([shards.pack("a.png", np.zeros((8, 8, 3), np.uint8))])
    Path("shards/0.arrow").write_bytes(data)
    scope = {}
    for block in blocks:
        exec(block, scope)
    assert scope["restored"].shape == scope["lq"].shape
    assert "a.png" in capsys.readouterr().out


def test_the_docs_have_commands():
    assert len(commands()) > 10


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_within_the_repository_lead_somewhere(page):
    for target in re.findall(r"\]\((?!https?://)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_commands_of_the_page_are_understood(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///x.db")
    monkeypatch.setenv("LAFORMER_STORE", "my store")
    job = cli.parse(["train", "demo", "--manifest", "runs/demo/manifest.parquet"])
    found = demo.commands("a folder/photos", DemoJob(steps=300), job, "laformer-x")
    for command in found:
        store, program, *words = shlex.split(command.command)
        assert store == "LAFORMER_STORE=my store"
        if program.endswith("/laformer"):
            cli.parse(words)
        else:
            assert program.endswith("/mlflow")
            assert words[0] == "ui"
    assert len(found) == 6
