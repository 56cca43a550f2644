"""What README and guide tell people to type is parsed by the command line itself."""

import ast
import importlib.util
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from extensions import messages, options

from jobs import cli, demo
from jobs.config import DemoJob
from laformer import checkpoint
from pipelines import shards
from tests import networks

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    *(
        path
        for path in sorted((ROOT / "docs").rglob("*.md"))
        if not path.is_relative_to(ROOT / "docs" / "reference" / "api")  # made at a build
    ),
]


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
    if words == ["laformer", "--help"]:
        assert cli.usage()
    elif words[0] == "laformer":
        if "--job" in words:  # a run writes its file
            assert words[1] == "train"
        else:
            cli.parse(words[1:])
    elif words[:3] == ["ray", "job", "submit"]:
        entry = words[words.index("--") + 1 :]
        assert entry[:2] == ["python", "-m"]
        cli.parse([entry[2].removeprefix("jobs."), *entry[3:]])
    elif words[:2] == ["python", "-m"]:
        assert importlib.util.find_spec(words[2]), command
    elif words[0] == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert words[1] in targets
    else:
        assert words[0] in ("export", "mlflow"), command


def blocks_of(page):
    return re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)


def test_the_python_of_the_pages_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    checkpoint.save(Path("runs/train/first/step_00020000"), networks.state(networks.config()), {})
    Path("shards").mkdir()
    data, _ = shards.bind([shards.pack("a.png", np.zeros((8, 8, 3), np.uint8))])
    Path("shards/0.arrow").write_bytes(data)
    scopes = {}
    for page in PAGES:
        for block in blocks_of(page):
            exec(block, scopes.setdefault(page.name, {}))
    restored = scopes["restore.md"]
    assert restored["restored"].shape == restored["lq"].shape
    assert scopes["new_task.md"]["task"].title == "speckle"
    assert "a.png" in capsys.readouterr().out


SHORT = [
    command
    for _, command in sorted(set(commands()))
    if command == "laformer --help" or command.startswith("laformer evaluate --list")
]


@pytest.mark.parametrize("command", SHORT)
def test_a_short_command_of_the_docs_runs(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("benchmarks").mkdir()
    assert cli.main(shlex.split(command)[1:]) == 0
    assert capsys.readouterr().out


def test_the_docs_have_commands():
    assert len(commands()) > 10


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_within_the_repository_lead_somewhere(page):
    for target, anchor in re.findall(r"\]\((?!https?://)([^)#]*)#?([^)]*)\)", page.read_text()):
        found = page.parent / target if target else page
        assert found.exists(), f"{page.name} links to {target}"
        if anchor:
            titles = re.findall(r"^#+ (.*)$", found.read_text(), re.MULTILINE)
            known = {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}
            assert anchor in known, f"{page.name} links to {target}#{anchor}"


@pytest.mark.parametrize("verb", cli.VERBS)
def test_the_options_of_the_pages_are_those_of_the_command_line(verb, capsys):
    words = [verb] if verb != "submit" else ["submit", "--help", "--", "train", "demo"]
    with pytest.raises(SystemExit):
        cli.parse([*words, "--help"] if verb != "submit" else words)
    told = set(re.findall(r"(?<![\w-])--[a-z][a-z.-]*", capsys.readouterr().out))
    told = {flag for flag in told if ".no-" not in flag and not flag.startswith("--no-")}
    shown = {each.name for each in options.options(cli.VERBS[verb][0]) if each.name[:2] == "--"}
    assert shown <= told, shown - told
    assert f"```{{options}} {verb}\n" in (ROOT / "docs/reference/options.md").read_text()


def test_the_options_of_a_nested_value_carry_its_name():
    names = {each.name for each in options.options(cli.VERBS["tune"][0])}
    assert {"--trials", "--train.lr", "--model.dim", "--data.validation-px"} <= names
    assert "--task" not in names


def test_every_message_of_the_troubleshooting_is_one_of_the_code():
    """Each quoted text lies in one string of the code, its parts around `…` in their order."""
    said = [message.text for message in messages.raised()]
    for path in (path for name in ("jobs", "laformer", "pipelines") for path in files(name)):
        said += [
            messages.written(node)
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.JoinedStr | ast.BinOp | ast.Constant)
        ]
    text = (ROOT / "docs/troubleshooting.md").read_text()
    for quoted in re.findall(r"^\| `([^`]*)` \|", text, re.MULTILINE):
        pattern = re.compile(".*".join(map(re.escape, quoted.split("…"))), re.DOTALL)
        assert any(map(pattern.search, said)), f"no message says: {quoted}"


def files(package):
    return sorted((ROOT / package).rglob("*.py"))


def test_messages_are_cut_where_the_advice_begins():
    message = messages.Message("dim … is odd; use …", "laformer/config.py")
    assert message.parts == ("dim … is odd", "use …")
    assert len(list(messages.raised())) > 200


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
