import pytest

from jobs import cli
from jobs.config import SubmitJob
from jobs.errors import JobError
from jobs.remote import reach

PLACE = {"LAFORMER_STORE": "s3://bucket/x", "MLFLOW_TRACKING_URI": "http://mlflow:5000"}


def check(*words, environment=PLACE):
    reach.check(words, cli.parse(list(words)), environment)


def test_places_that_every_host_sees_are_fine():
    check("train", "demo", "--manifest", "s3://bucket/m.parquet", "--init", "laformer-x@champion")
    check("prepare", "gs://bucket/photos", "--tiles", "s3://bucket/tiles")
    check("restore", "s3://a/in", "s3://a/out")
    check("evaluate", "--model", "laformer-x/3")
    check("promote", "laformer-x")


@pytest.mark.parametrize(
    ("words", "environment", "message"),
    [
        (("export", "a.onnx"), PLACE, "export works on this machine; a cluster is given one of"),
        (("prepare", "photos"), PLACE, "photos photos is on the disk of this machine"),
        (("restore", "s3://a", "out"), PLACE, "target out is on the disk of this machine"),
        (("train", "demo", "--manifest", "m.parquet"), PLACE, "manifest m.parquet is on the"),
        (("promote", "x"), {"LAFORMER_STORE": "runs"}, "LAFORMER_STORE runs is on the disk"),
        (
            ("promote", "x"),
            {"MLFLOW_TRACKING_URI": "sqlite:////a/mlflow.db"},
            "MLFLOW_TRACKING_URI sqlite:////a/mlflow.db is on the disk of this machine",
        ),
        (
            ("prepare", "photos"),
            {"LAFORMER_SHARED_DISK": "1"},
            "photos photos is relative, but the cluster works in another folder; write /",
        ),
        (
            ("promote", "x"),
            {"LAFORMER_SHARED_DISK": "1", "MLFLOW_TRACKING_URI": "sqlite:///mlflow.db"},
            "MLFLOW_TRACKING_URI sqlite:///mlflow.db is relative",
        ),
        (
            ("prepare", "s3://me:hunter22@bucket/p"),
            PLACE,
            "s3://bucket/p is given with a password",
        ),
    ],
)
def test_what_another_machine_cannot_see_is_refused(words, environment, message):
    with pytest.raises(JobError, match="^" + message.replace("(", r"\(")) as refusal:
        check(*words, environment=environment)
    assert "hunter22" not in str(refusal.value)


def test_a_model_folder_stays_here_and_a_model_name_does_not(tmp_path):
    check("restore", "s3://a", "s3://b", "--model", "name/3")
    with pytest.raises(JobError, match=r"model .* is on the disk of this machine"):
        check("restore", "s3://a", "s3://b", "--model", str(tmp_path))
    check("restore", "s3://a", "s3://b", "--model", str(tmp_path), environment=SHARED)


SHARED = {"LAFORMER_SHARED_DISK": "1", "LAFORMER_STORE": "/mnt/x"}


def test_a_disk_that_all_hosts_see_is_fine():
    check("prepare", "/mnt/photos", environment=SHARED)
    check("promote", "x", environment=SHARED | {"MLFLOW_TRACKING_URI": "sqlite:////mnt/mlflow.db"})


def test_places_go_along_by_themselves_and_secrets_when_named():
    environment = PLACE | {"AWS_SECRET_ACCESS_KEY": "s", "HOME": "/root", "AWS_ENDPOINT_URL": ""}
    assert reach.forwarded((), environment) == PLACE
    sent = reach.forwarded(("AWS_SECRET_ACCESS_KEY",), environment)
    assert sent == PLACE | {"AWS_SECRET_ACCESS_KEY": "s"}
    [note] = reach.notes(sent)
    assert note == "the cluster keeps the values of AWS_SECRET_ACCESS_KEY in the job's record"


@pytest.mark.parametrize(
    ("named", "environment", "message"),
    [
        (("NOWHERE",), PLACE, "env NOWHERE is not set in this shell"),
        (("RAY_ADDRESS",), {"RAY_ADDRESS": "x"}, "env RAY_ADDRESS is set by the cluster itself"),
        (
            (),
            {"MLFLOW_TRACKING_URI": "http://me:hunter22@mlflow"},
            "MLFLOW_TRACKING_URI http://mlflow holds a password",
        ),
    ],
)
def test_what_cannot_be_handed_on_is_explained(named, environment, message):
    with pytest.raises(JobError, match=message) as refusal:
        reach.forwarded(named, environment)
    assert "hunter22" not in str(refusal.value)


def test_a_password_in_an_address_goes_along_when_named():
    environment = {"MLFLOW_TRACKING_URI": "http://me:hunter22@mlflow"}
    assert reach.forwarded(("MLFLOW_TRACKING_URI",), environment) == environment


def test_notes_name_what_is_likely_wrong():
    assert reach.notes({"MLFLOW_TRACKING_URI": "http://localhost:5000"}) == [
        "LAFORMER_STORE is not set here, so the cluster's own counts",
        "MLFLOW_TRACKING_URI names this machine, which is another one on the cluster's hosts",
    ]


def test_a_value_on_the_command_line_is_refused_without_being_shown():
    with pytest.raises(ValueError, match=r"^env TOKEN is not the plain name") as refusal:
        SubmitJob(env=("TOKEN=hunter22",))
    assert "hunter22" not in str(refusal.value)


def test_the_table_names_values_that_the_verbs_have():
    for verb in reach.PLACES.keys() & cli.VERBS.keys():
        fields = cli.VERBS[verb][0].__dataclass_fields__
        if verb != "tune":
            assert set(reach.PLACES[verb]) <= set(fields), verb
