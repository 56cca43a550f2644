"""The command line: it parses before it imports, and says what is wrong in one message."""

import dataclasses
import json
import os
import subprocess
import sys

import pytest

from jobs import cli, config, recipes
from jobs.errors import JobError
from jobs.failures import cause
from jobs.training.inputs import check_model
from laformer.config import Stage
from pipelines.errors import StorageError
from pipelines.tasks import TASKS

HEAVY = ("torch", "ray", "mlflow", "cv2", "pyarrow", "s3fs")


@pytest.mark.parametrize("verb", ["", *cli.VERBS, "train demo"])
def test_help_imports_nothing_heavy(verb):
    code = (
        "import sys; from jobs.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit as stop: assert not stop.code\n"
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    found = subprocess.run(
        [sys.executable, "-c", code, *verb.split(), "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.splitlines()[-1] == "[]"
    assert "usage" in found.stdout


@pytest.mark.parametrize("verb", cli.VERBS)
def test_a_verb_is_also_a_module(verb):
    found = subprocess.run(
        [sys.executable, "-m", f"jobs.{verb}", "--help"], capture_output=True, text=True, check=True
    )
    assert f"usage: laformer {verb}" in found.stdout


@pytest.mark.parametrize("name", recipes.RECIPES)
def test_every_recipe_parses_and_survives_json(name):
    job = cli.parse(["train", name])
    assert job.name == name
    assert job.task in TASKS
    assert recipes.from_json(recipes.to_json(job)) == job


def test_values_of_a_recipe_can_be_changed():
    job = cli.parse(["train", "demo", "--train.lr", "1e-4", "--name", "mine", "--workers", "1"])
    assert (job.train.lr, job.name, job.workers) == (1e-4, "mine", 1)


def test_stages_are_words_on_the_command_line():
    job = cli.parse(["train", "demo", "--train.stages", "200:80:4", "400:96:2", "--name", "mine"])
    assert job.train.stages == (
        Stage(first_step=200, patch_px=80, global_batch=4),
        Stage(first_step=400, patch_px=96, global_batch=2),
    )
    assert recipes.from_json(recipes.to_json(job)) == job
    assert cli.parse(["train", "demo", "--train.stages"]).train.stages == ()


def test_a_job_of_a_version_without_stages_has_one():
    values = json.loads(recipes.to_json(recipes.recipe("demo")))
    del values["train"]["stages"]
    assert recipes.from_json(json.dumps(values)) == recipes.recipe("demo")


def test_a_job_file_runs_again(tmp_path):
    job = cli.parse(["train", "demo", "--train.seed", "7", "--name", "mine"])
    (tmp_path / "job.json").write_text(recipes.to_json(job))
    assert cli.parse(["train", "--job", str(tmp_path / "job.json")]) == job


def test_several_benchmarks_are_named_one_by_one():
    job = cli.parse(["evaluate", "--model", "m@x", "--benchmark", "a", "--benchmark", "b"])
    assert job.benchmark == ("a", "b")


def test_restore_options_have_no_prefix():
    job = cli.parse(["restore", "in", "out", "--max-bad-fraction", "0", "--model", "m@champion"])
    assert job == config.RestoreJob(
        source="in",
        target="out",
        model="m@champion",
        restore=config.RestoreConfig(max_bad_fraction=0),
    )


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["fly"], "unknown verb 'fly'; use one of: prepare, preview"),
        (["train"], "train needs a recipe: one of denoise-gaussian"),
        (["train", "dehazing"], "unknown recipe 'dehazing'; use one of: denoise-gaussian"),
        (["train", "debug-x"], "unknown recipe 'x'; use one of: denoise-gaussian"),
        (["train", "--job", "missing.json"], "no job file missing.json"),
    ],
)
def test_what_is_not_understood_is_one_message(argv, message, capsys):
    assert cli.main(argv) == 2
    assert capsys.readouterr().err.startswith(f"error: {message}")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["train", "demo", "--train.speed", "9"], "Unrecognized options: --train.speed"),
        (["train", "demo", "--train.patch-px", "130"], "patch_px 130 is not a multiple of 8"),
        (["train", "demo", "--train.stages", "9:90:4"], "patch_px 90 is not a multiple of 8"),
        (["train", "demo", "--train.stages", "9:80"], "stage 9:80 is not STEP:PATCH_PX:BATCH; use"),
        (["train", "demo", "--task", "other"], "--task"),
        (["train", "demo", "--weight", "2", "--weight", "1"], "0 manifests have 2 weights"),
        (
            ["train", "demo", "--weight", "0"],
            "weight 0 is less than 1; use whole numbers from 1 on",
        ),
        (["preview", "jpeg", "photos", "--seed", "-1"], "seed -1 is negative; use 0 or more"),
        (["preview", "jpeg", "photos", "--side-px", "200000"], "side_px 200000 is not 1 to 2048"),
        (["preview", "jpeg", "photos", "--target", "x.jpg"], "target x.jpg does not end in .png"),
        (["prepare", "photos", "--holdout", "2"], "holdout 2.0 is outside [0, 1)"),
        (["export", "s3://b/model.onnx"], "target s3://b/model.onnx is no file of this machine"),
        (["export", "model.pth"], "target model.pth ends neither in .onnx nor in .pt2"),
    ],
)
def test_an_unknown_key_or_a_wrong_value_exits_with_2(argv, message, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(argv)
    assert stop.value.code == 2
    assert message in " ".join(capsys.readouterr().err.replace("│", "").split())


@pytest.mark.parametrize("name", recipes.RECIPES)
def test_every_network_fits_its_task(name):
    job = recipes.recipe(name)
    check_model(job, TASKS[job.task])


def test_a_network_of_another_task_is_refused():
    job = recipes.recipe("demo")
    other = dataclasses.replace(job, model=dataclasses.replace(job.model, scale=2))
    with pytest.raises(JobError, match=r"model.scale 2 is not the 1 of .*; use --model.scale 1"):
        check_model(other, TASKS[job.task])


def test_a_broken_job_file_is_explained():
    with pytest.raises(JobError, match="this is no job of this version"):
        recipes.from_json('{"task": "x"}')


def test_the_known_error_is_found_inside_what_ray_wraps_around_it():
    known = StorageError("bucket b does not exist")

    class WrappedError(StorageError):
        cause = known

    class GroupError(RuntimeError):
        worker_failures = {1: WrappedError("long trace")}  # noqa: RUF012

    assert cause(GroupError()) is known
    assert cause(ValueError("a bug")) is None


def run(*argv, env=None, cwd=None):
    """Run the command as a user would; return exit code and stderr."""
    found = subprocess.run(
        [sys.executable, "-m", "jobs.cli", *argv],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | (env or {}),
        cwd=cwd,
    )
    return found.returncode, found.stderr


def test_a_wrong_folder_is_one_message_without_traceback(tmp_path):
    code, err = run("prepare", "no/such/folder", cwd=tmp_path)
    assert code == 1
    assert "no/such/folder does not exist" in err
    assert "Traceback" not in err
    assert len(err.splitlines()) == 1


def test_a_traceback_comes_when_asked_for(tmp_path):
    _, err = run("prepare", "nowhere", cwd=tmp_path, env={"LAFORMER_TRACEBACK": "1"})
    assert "Traceback" in err
