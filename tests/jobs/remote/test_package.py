"""What a cluster is sent: the files of the checkout, never a secret."""

import os
import subprocess
import zipfile

import pytest

from jobs.errors import JobError
from jobs.remote import package
from jobs.remote.package import Tree

SECRET = "wJalrXUtnFEMIK7MDENGbPxRfiCY"


@pytest.fixture
def checkout(tmp_path):
    """Return a small checkout of git with files of every kind."""
    root = tmp_path / "tree"
    files = {
        "jobs/cli.py": "print(1)\n",
        "infra/run.sh": "#!/bin/sh\n",
        ".gitignore": "runs/\n*.bin\n",
        "runs/weights": "w" * 100,
        "big.bin": "b",
        "new file.txt": "not yet added",
        "gone.py": "deleted afterwards",
        ".env": f"AWS_SECRET_ACCESS_KEY={SECRET}",
        "conf/.aws/credentials": "x",
        "server.PEM": "x",
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    (root / "infra/run.sh").chmod(0o755)
    (tmp_path / "outside.txt").write_text("not ours")
    (root / "link.txt").symlink_to(tmp_path / "outside.txt")
    (root / "inner.py").symlink_to("jobs/cli.py")
    for command in (["init", "-q"], ["add", "jobs", "gone.py", ".env", "inner.py", "link.txt"]):
        subprocess.run(["git", "-C", str(root), *command], check=True)
    (root / "gone.py").unlink()
    return root


def packed(tree, target, environment=None):
    tree.write(target, environment or {})
    with zipfile.ZipFile(target) as archive:
        return {info.filename: info for info in archive.infolist()}


def test_a_checkout_is_what_git_knows_or_would_add(checkout, tmp_path):
    tree = Tree.of(checkout)
    members = packed(tree, tmp_path / "tree.zip")
    sent = {".gitignore", "infra/run.sh", "inner.py", "jobs/cli.py", "new file.txt"}
    assert set(members) == set(tree.files) == sent
    assert tree.private == (".env", "conf/.aws/credentials", "server.PEM")
    assert members["infra/run.sh"].external_attr >> 16 & 0o111
    assert not members["inner.py"].is_dir()


def test_outside_git_customary_names_stay_here(checkout, tmp_path, monkeypatch):
    (checkout / ".git").rename(tmp_path / "history")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    (checkout / ".venv-test").mkdir()
    (checkout / ".venv-test/python").write_text("x")
    tree = Tree.of(checkout)
    assert "jobs/cli.py" in tree.files
    assert not {"runs/weights", ".venv-test/python", "link.txt", ".env"} & set(tree.files)


def test_the_same_files_make_the_same_bytes(checkout, tmp_path):
    Tree.of(checkout).write(tmp_path / "1.zip", {})
    os.utime(checkout / "jobs/cli.py", (0, 0))
    Tree.of(checkout).write(tmp_path / "2.zip", {})
    assert (tmp_path / "1.zip").read_bytes() == (tmp_path / "2.zip").read_bytes()


def test_a_tree_that_is_too_large_is_refused_with_its_largest_files(checkout, monkeypatch):
    (checkout / "photos.raw").write_bytes(bytes(3 * 2**20))
    monkeypatch.setattr(package, "MAX_BYTES", 2**20)
    with pytest.raises(JobError, match=r"3 MB, more than the 1 MB .*photos\.raw 3\.0 MB"):
        Tree.of(checkout)


def test_a_folder_that_is_no_checkout_is_refused(tmp_path):
    with pytest.raises(JobError, match="is no checkout of this project"):
        Tree.of(tmp_path)


@pytest.mark.parametrize(
    "environment",
    [
        {"AWS_SECRET_ACCESS_KEY": SECRET},
        {"RAY_AUTH_TOKEN": SECRET},
        {"MLFLOW_TRACKING_URI": f"http://me:{SECRET}@host"},
    ],
)
def test_a_secret_of_the_environment_inside_a_file_is_found(checkout, tmp_path, environment):
    (checkout / "notes.md").write_text(f"my key is {SECRET}, I think")
    with pytest.raises(JobError, match=rf"notes\.md holds the value of {next(iter(environment))}"):
        packed(Tree.of(checkout), tmp_path / "tree.zip", environment)
    assert SECRET not in str(environment.keys())


def test_paths_and_short_values_are_no_secrets():
    environment = {
        "RAY_AUTH_TOKEN_PATH": "/home/me/.ray/auth_token",
        "MY_PASSWORD": "short",
        "GIT_TOKEN": SECRET,
        "HOME": "/home/somebody",
    }
    assert package.secrets_of(environment) == {"GIT_TOKEN": SECRET}
