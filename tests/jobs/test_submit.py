"""Submitting against a client that answers as Ray's does, without a cluster."""

import dataclasses
import os
import shlex
import zipfile

import aiohttp
import pytest
import requests
from ray.exceptions import AuthenticationError
from ray.job_submission import JobDetails, JobStatus

from jobs import cli, jobs, place, submit
from jobs.config import JobsJob, SubmitJob
from jobs.errors import JobError
from jobs.remote import dashboard, following
from jobs.remote.dashboard import Dashboard
from jobs.remote.package import Tree

RUNNING, SUCCEEDED = JobStatus.RUNNING, JobStatus.SUCCEEDED
FAILED, STOPPED = JobStatus.FAILED, JobStatus.STOPPED
SECRET = "hunter22hunter22"


class FakeClient:
    """Jobs that end after their log was read `looks` times, with logs that may break off."""

    def __init__(self, *found):
        self.found = {job.submission_id: job for job in found}
        self.log = "one\ntwo\nthree\n"
        self.cuts = []
        """How much of the log each connection gives before it breaks."""
        self.end = {"status": SUCCEEDED, "driver_exit_code": 0}
        self.sent = {}

    def list_jobs(self):
        return list(self.found.values())

    def get_job_info(self, job_id):
        if job_id not in self.found:
            raise RuntimeError(f"Request failed with status code 404: Job {job_id} does not exist.")
        return self.found[job_id]

    def submit_job(self, *, submission_id, entrypoint, runtime_env, metadata):
        if submission_id in self.found:
            raise RuntimeError(
                "Request failed with status code 400: Traceback\nValueError: Job with "
                f"submission_id {submission_id} already exists. Please use another."
            )
        with zipfile.ZipFile(runtime_env["working_dir"]) as archive:
            self.sent = {name: archive.read(name) for name in archive.namelist()}
        runtime_env = runtime_env | {"working_dir": "gcs://_ray_pkg_1.zip"}
        self.found[submission_id] = details(
            submission_id, entrypoint=entrypoint, runtime_env=runtime_env, metadata=metadata
        )

    def stop_job(self, job_id):
        self.change(job_id, status=STOPPED)

    async def tail_job_logs(self, job_id):
        if job_id not in self.found:
            raise aiohttp.ClientError("404, message='Invalid response status'")
        if self.cuts:
            yield self.log[: self.cuts.pop(0)]
            raise RuntimeError("WebSocket connection closed unexpectedly with close code 1006")
        for line in self.log.splitlines(keepends=True):
            yield line
        self.change(job_id, end_time=61_000, **self.end)

    def change(self, job_id, **values):
        self.found[job_id] = self.found[job_id].model_copy(update=values)


def details(job_id, status=RUNNING, **values):
    given = {"entrypoint": "python -m jobs.train demo", "start_time": 1_000, "metadata": {}}
    return JobDetails(type="SUBMISSION", submission_id=job_id, status=status, **(given | values))


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    """Let no pause pass and no place of this machine count."""
    monkeypatch.setattr(following.time, "sleep", lambda _seconds: None)
    for name in (*submit.reach.FORWARDED, *submit.reach.OWN):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LAFORMER_STORE", "s3://bucket/x")


@pytest.fixture
def tree(tmp_path):
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "cli.py").write_text("print(1)\n")
    return Tree(tmp_path, ("jobs/cli.py",), (), 9)


def order(*words, **options):
    return submit.order_of(SubmitJob(words=words, **options))


def submitted(client, tree, *words, **options):
    return submit.submit(Dashboard(client, "http://head:8265"), order(*words, **options), tree)


def test_a_verb_arrives_with_its_tree_and_its_place(tree, capsys, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    client = FakeClient()
    words = ("prepare", "s3://b/a b", "--match", "$(x)", "y", "--lq", "s3://b/lq")
    assert submitted(client, tree, *words, env=("AWS_SECRET_ACCESS_KEY",)) == 0
    [(job_id, job)] = client.found.items()
    assert job_id.startswith("prepare-")
    assert shlex.split(job.entrypoint) == ["python", "-m", "jobs.prepare", *words[1:]]
    assert client.sent == {"jobs/cli.py": b"print(1)\n"}
    variables = job.runtime_env["env_vars"]
    assert variables["AWS_SECRET_ACCESS_KEY"] == SECRET
    assert variables["LAFORMER_STORE"] == "s3://bucket/x"
    assert variables["LAFORMER_JOB"] == job_id
    shown = capsys.readouterr().out
    assert SECRET not in shown
    assert "variables sent: AWS_SECRET_ACCESS_KEY, LAFORMER_STORE" in shown
    assert "one\ntwo\nthree\n" in shown


def test_a_run_that_runs_is_followed_and_not_started_again(tree, capsys):
    client = FakeClient()
    asked = order("train", "demo")
    job = details("train-demo", metadata=asked.metadata, entrypoint=asked.command)
    client.found["train-demo"] = job
    assert submitted(client, tree, "train", "demo") == 0
    assert set(client.found) == {"train-demo"}
    assert "train-demo runs already at http://head:8265" in capsys.readouterr().out


def test_a_run_that_is_over_gets_another_attempt(tree, capsys):
    client = FakeClient(details("train-demo", FAILED), details("train-demo-2", STOPPED))
    assert submitted(client, tree, "train", "demo") == 0
    assert set(client.found) == {"train-demo", "train-demo-2", "train-demo-3"}
    assert "train-demo-2 is over (STOPPED); this is attempt 3" in capsys.readouterr().out


@pytest.mark.parametrize(
    "other",
    [
        {"entrypoint": "python -m jobs.train demo --train.lr 1"},
        {"metadata": {submit.STORE: "s3://other/x"}},
    ],
)
def test_another_job_of_the_same_name_is_not_taken_for_this_one(tree, other):
    asked = order("train", "demo")
    same = {"metadata": asked.metadata, "entrypoint": asked.command}
    client = FakeClient(details("train-demo", **(same | other)))
    with pytest.raises(JobError, match=r"train-demo runs something else .*another --name"):
        submitted(client, tree, "train", "demo")
    assert submitted(client, tree, "train", "demo", name="mine") == 0


def test_the_slower_of_two_submissions_follows_the_faster(tree, capsys):
    client = FakeClient()
    asked = order("train", "demo")
    there = details("train-demo", metadata=asked.metadata, entrypoint=asked.command)

    def empty():
        client.found["train-demo"] = there
        return []

    client.list_jobs = empty
    assert submitted(client, tree, "train", "demo") == 0
    assert "train-demo was submitted a moment ago" in capsys.readouterr().out


def test_the_same_work_has_the_same_name():
    names = {
        order(*words).name
        for words in (
            ("restore", "s3://a", "s3://b"),
            ("restore", "s3://a", "s3://c"),
            ("restore", "--model", "x@champion", "s3://a", "s3://b"),
        )
    }
    assert len(names) == 3
    assert order("restore", "s3://a", "s3://b").name in names
    assert order("train", "demo", "--name", "a b/ü").name == "train-a-b-"
    assert order("train", "demo", name="my job").name == "my-job"


@pytest.mark.parametrize(
    ("end", "code"),
    [
        ({"status": SUCCEEDED, "driver_exit_code": 0}, 0),
        ({"status": FAILED, "driver_exit_code": 7}, 7),
        ({"status": FAILED, "driver_exit_code": -9}, 137),
        ({"status": FAILED, "message": "runtime_env setup failed"}, 1),
        ({"status": STOPPED}, 130),
    ],
)
def test_the_exit_code_is_the_job_s_own(tree, end, code, capsys):
    client = FakeClient()
    client.end = end
    assert submitted(client, tree, "train", "demo") == code
    if "message" in end:
        assert "the cluster says: runtime_env setup failed" in capsys.readouterr().out


def test_a_log_that_breaks_off_is_read_on_without_repeating(tree, capsys):
    client = FakeClient()
    client.cuts = [5, 0, 9]
    assert submitted(client, tree, "train", "demo") == 0
    assert capsys.readouterr().out.count("one\ntwo\nthree\n") == 1


def test_an_outage_is_waited_for_and_an_endless_one_is_not(tree, capsys, monkeypatch):
    client = FakeClient(details("train-demo"))
    answers = iter([requests.ConnectionError("gone"), requests.ReadTimeout("slow")])
    info = client.get_job_info

    def flaky(job_id):
        for error in answers:
            raise error
        return info(job_id)

    client.get_job_info = flaky
    assert following.follow(Dashboard(client, "http://head"), "train-demo") == 0
    shown = capsys.readouterr().out
    assert shown.count("note: http://head does not answer; trying again") == 1
    assert "note: http://head answers again" in shown
    assert shown.count("one\n") == 1

    def dead(job_id):
        raise requests.ConnectionError("gone")

    client.get_job_info = dead
    monkeypatch.setattr(following, "OUTAGE_S", -1)
    with pytest.raises(JobError, match=r"no Ray dashboard answers .* train-demo may go on"):
        following.follow(Dashboard(client, "http://head"), "train-demo")


def test_a_job_that_the_cluster_forgot_is_explained():
    with pytest.raises(JobError, match="no longer knows train-demo: its head was started anew"):
        following.follow(Dashboard(FakeClient(), "http://head"), "train-demo")


def test_a_log_that_is_gone_with_its_host_does_not_hold_up_the_end():
    client = FakeClient(details("train-demo", FAILED, driver_exit_code=3))
    client.cuts = [0] * 10
    assert following.follow(Dashboard(client, "http://head"), "train-demo") == 3


def test_ctrl_c_ends_the_following_alone(tree, capsys):
    client = FakeClient()

    async def interrupted(job_id):
        yield "one\n"
        raise KeyboardInterrupt

    client.tail_job_logs = interrupted
    assert submitted(client, tree, "train", "demo") == 130
    assert client.found["train-demo"].status == RUNNING
    shown = capsys.readouterr().out
    assert "laformer jobs follow train-demo --address http://head:8265" in shown
    assert "laformer jobs stop train-demo --address http://head:8265" in shown


def test_without_following_the_answer_comes_at_once(tree, capsys):
    there = Dashboard(FakeClient(), "http://head:8265")
    assert submit.submit(there, order("train", "demo"), tree, follow_it=False) == 0
    assert "one" not in capsys.readouterr().out


def test_a_job_file_goes_along_or_is_refused(tree):
    with pytest.raises(JobError, match=r"job file runs/job.json does not go along with"):
        submit.require_packed(("train", "--job", "runs/job.json"), tree)
    submit.require_packed(("train", "--job", "s3://b/job.json"), tree)
    listed = dataclasses.replace(tree, files=("job.json",))
    submit.require_packed(("train", "--job", "job.json"), listed)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["submit", "--address", "head:8265"], "submit needs two dashes and a verb"),
        (["submit", "--", "fly"], "unknown verb 'fly'"),
        (["submit", "--", "train", "dehazing"], "unknown recipe 'dehazing'"),
    ],
)
def test_what_the_cluster_would_not_understand_is_refused_here(argv, message, capsys):
    assert cli.main(argv) == 2
    assert capsys.readouterr().err.startswith(f"error: {message}")


def test_a_wrong_value_of_the_verb_is_refused_here(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["submit", "--", "train", "demo", "--train.patch-px", "130"])
    assert stop.value.code == 2
    assert "is not a multiple of 8" in capsys.readouterr().err


def test_options_before_the_dashes_are_submit_s():
    job = cli.parse(
        ["submit", "--address", "a", "--env", "X", "--no-follow", "--", "train", "demo"]
    )
    assert job == SubmitJob(address="a", env=("X",), follow=False, words=("train", "demo"))


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (requests.ConnectionError("refused"), "no Ray dashboard answers at http://head"),
        (ConnectionError("refused"), "no Ray dashboard answers at http://head"),
        (requests.exceptions.JSONDecodeError("x", "", 0), "is no Ray dashboard"),
        (KeyError("ray_version"), "is no Ray dashboard"),
        (AuthenticationError("Authentication required: x"), "wants a token and got none"),
        (AuthenticationError("Authentication failed: x"), "refuses this token; set RAY_AUTH_TOKEN"),
        (RuntimeError("Request failed with status code 500: a\nb"), "http://head says: b"),
        (RuntimeError("Request failed with status code 503: busy."), "does not answer: busy."),
    ],
)
def test_trouble_with_the_cluster_is_one_message(error, message):
    with pytest.raises(JobError, match=message), dashboard.answered("http://head"):
        raise error


@pytest.mark.parametrize(
    ("given", "environment", "address"),
    [
        ("head:8265", {}, "http://head:8265"),
        ("https://head/ray/", {}, "https://head/ray"),
        (None, {"RAY_API_SERVER_ADDRESS": "http://x:1"}, "http://x:1"),
        ("http://y:1", {"RAY_API_SERVER_ADDRESS": "http://x:1"}, "http://y:1"),
    ],
)
def test_the_address_given_here_comes_first(given, environment, address, monkeypatch):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert dashboard.address_of(given) == address


@pytest.mark.parametrize(
    ("given", "message"), [(None, "no cluster is named"), ("ray://head:10001", "is none of a dash")]
)
def test_an_address_without_a_dashboard_is_refused(given, message):
    with pytest.raises(JobError, match=message):
        dashboard.address_of(given)


def test_nothing_listens_is_said_at_once_and_the_environment_is_kept(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(JobError, match=r"no Ray dashboard answers at http://127\.0\.0\.1:9"):
        Dashboard.connect("127.0.0.1:9")
    assert os.environ["RAY_ADDRESS"] == "127.0.0.1:1"


def test_the_token_comes_from_where_ray_looks_for_it(monkeypatch, tmp_path):
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert dashboard.authorization() == {}
    (tmp_path / "token").write_text("from-file\n")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))
    assert dashboard.authorization() == {"Authorization": "Bearer from-file"}
    monkeypatch.setenv("RAY_AUTH_TOKEN", "given")
    assert dashboard.authorization() == {"Authorization": "Bearer given"}
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    assert dashboard.authorization() == {}


def test_jobs_are_found_by_id_by_name_and_by_run(capsys):
    client = FakeClient(
        details("train-demo", SUCCEEDED, end_time=9_000),
        details("train-demo-2", runtime_env={"env_vars": {"AWS_X": SECRET}}, start_time=2_000),
        details("prepare-1", metadata={submit.NAME: "prepare-1"}, start_time=500),
        details("train-mine", metadata={submit.NAME: "train-mine"}, start_time=3_000),
    )
    there = Dashboard(client, "http://head")
    for name, job_id in {
        "train-demo": "train-demo-2",
        "train-demo-2": "train-demo-2",
        "prepare-1": "prepare-1",
        "mine": "train-mine",
    }.items():
        assert jobs.find(there, name).submission_id == job_id
    with pytest.raises(JobError, match=r"no job 'x' at http://head; the last are: prepare-1, "):
        jobs.find(there, "x")
    jobs.show_all(there)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines][:2] == ["prepare-1", "train-demo"]
    jobs.show(jobs.find(there, "train-demo"))
    shown = capsys.readouterr().out
    assert "variables  AWS_X" in shown
    assert SECRET not in shown


def test_a_job_is_stopped_once(capsys):
    client = FakeClient(details("train-demo"))
    there = Dashboard(client, "http://head")
    jobs.stop(there, jobs.find(there, "train-demo"))
    jobs.stop(there, jobs.find(there, "train-demo"))
    first, second = capsys.readouterr().out.splitlines()
    assert first == "train-demo: stopped; the same submission continues it"
    assert second == "train-demo is over already (STOPPED)"


def test_an_action_needs_a_name():
    with pytest.raises(ValueError, match="stop needs the name of a job"):
        JobsJob(action="stop")
    assert cli.parse(["jobs", "follow", "x", "--address", "a"]).name == "x"


def test_a_submitted_job_without_a_store_loses_nothing(monkeypatch):
    monkeypatch.delenv("LAFORMER_STORE")
    monkeypatch.setenv("LAFORMER_JOB", "train-demo")
    with pytest.raises(JobError, match="LAFORMER_STORE is set neither where train-demo was"):
        place.store()


def test_a_cluster_that_still_starts_is_waited_for(monkeypatch):
    """Its dashboard answers before the first host takes jobs."""
    answers = [RuntimeError("Request failed with status code 500: No available agent to submit")]

    class Starting:
        def submit_job(self, **job):
            if answers:
                raise answers.pop()
            self.job = job

    client = Starting()
    monkeypatch.setattr(dashboard.time, "sleep", lambda _: None)
    Dashboard(client, "http://head").submit(submission_id="a")
    assert client.job == {"submission_id": "a"}
    answers += [RuntimeError("Request failed with status code 500: No available agent")]
    monkeypatch.setattr(dashboard, "STARTING_S", -1.0)
    with pytest.raises(JobError, match="has no host that takes jobs"):
        Dashboard(client, "http://head").submit(submission_id="b")
