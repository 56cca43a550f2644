"""The files of infra/: what they run is understood, what they say is known, nothing is secret."""

import copy
import json
import re
import shlex
from pathlib import Path

import jsonschema
import pytest
import ray.autoscaler
import yaml

from jobs import cli
from pipelines import storage
from tests.infra.schemas import schema_of

ROOT = Path(__file__).parents[2]
INFRA = ROOT / "infra"
KUBERNETES = sorted((INFRA / "kubernetes").glob("*.yaml"))


def documents(*paths):
    return [each for path in paths for each in yaml.safe_load_all(path.read_text())]


ALL = documents(*KUBERNETES)
JOBS = {each["metadata"]["name"]: each for each in ALL if each["kind"] == "RayJob"}
[CLUSTER] = [each for each in ALL if each["kind"] == "RayCluster"]


def named(kind, name):
    [found] = [each for each in ALL if each["kind"] == kind and each["metadata"]["name"] == name]
    return found


def containers(document):
    """Yield every container below a document."""
    if isinstance(document, dict):
        yield from document.get("containers", [])
        document = list(document.values())
    if isinstance(document, list):
        for each in document:
            yield from containers(each)


def understood(command):
    """Parse a command as the command line does; return its verb."""
    words = shlex.split(command)
    assert words[0] == "laformer"
    cli.parse(words[1:])
    return words[1]


@pytest.mark.parametrize("name", JOBS)
def test_the_entrypoint_of_a_job_is_a_command_of_ours(name):
    assert understood(JOBS[name]["spec"]["entrypoint"]) == name.removeprefix("laformer-")


def test_there_is_a_job_for_training_searching_and_restoring():
    assert set(JOBS) == {"laformer-train", "laformer-tune", "laformer-restore"}


@pytest.mark.parametrize(
    "document", ALL, ids=lambda each: f"{each['kind']}-{each['metadata']['name']}"
)
def test_a_document_has_known_fields_alone(document):
    jsonschema.Draft7Validator(schema_of(document)).validate(document)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("spec", "headGroupSpecs"), {}),
        (("spec", "rayClusterSpec", "authOptions", "mode"), "disabled"),
        (("spec", "rayClusterSpec", "headGroupSpec", "rayStartParams", "num-cpus"), 0),
        (("spec", "entryPoint"), "x"),
    ],
)
def test_a_slip_is_found(path, value):
    document = copy.deepcopy(JOBS["laformer-train"])
    inner = document
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft7Validator(schema_of(document)).validate(document)


@pytest.mark.parametrize("name", JOBS)
def test_the_cluster_of_a_job_is_the_standing_one_but_for_numbers_and_rights(name):
    def comparable(spec):
        text = json.dumps(spec)
        text = re.sub(r"laformer-storage-(train|restore)", "laformer-storage", text)
        return re.sub(r'"(replicas|minReplicas|maxReplicas)": \d+', "", text)

    assert comparable(JOBS[name]["spec"]["rayClusterSpec"]) == comparable(CLUSTER["spec"])


def test_versions_are_those_of_the_project():
    pins = dict(
        re.findall(r"^([\w-]+)==(.*)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    )
    assert CLUSTER["spec"]["rayVersion"] == pins["ray"]
    version = re.search(r'^version = "(.*)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)[
        1
    ]
    ours = {each["image"] for each in containers(ALL) if "laformer" in each["image"]}
    assert ours == {f"registry.example.com/laformer:{version}-{kind}" for kind in ("cpu", "cuda")}
    launched = (INFRA / "launcher.yaml").read_text()
    assert set(re.findall(r"registry\S+", launched)) == ours
    oldest = re.search(r"\((\d+), (\d+)\)", (INFRA / "check_python.py").read_text())
    assert f"PYTHON={'.'.join(oldest.groups())}" in (INFRA / "Dockerfile").read_text()


@pytest.mark.parametrize(
    "spec", [CLUSTER["spec"], *(job["spec"]["rayClusterSpec"] for job in JOBS.values())]
)
def test_the_head_is_stable_and_workers_are_spot_and_memory_adds_up(spec):
    head = spec["headGroupSpec"]
    assert head["rayStartParams"]["num-cpus"] == "0"
    assert head["template"]["spec"]["nodeSelector"] == {"laformer/pool": "stable"}
    groups = {group["groupName"]: group for group in spec["workerGroupSpecs"]}
    assert set(groups) == {"gpu", "data"}
    for group in groups.values():
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
        keys = [each["key"] for each in group["template"]["spec"]["tolerations"]]
        assert "laformer/spot" in keys
    for group in (head, *groups.values()):
        [container] = group["template"]["spec"]["containers"]
        [shm] = [v for v in group["template"]["spec"]["volumes"] if v["name"] == "shm"]
        store = int(group["rayStartParams"]["object-store-memory"])
        # Ray falls back to the disk, slowly and without a word, where /dev/shm is too small.
        assert store < num_bytes(shm["emptyDir"]["sizeLimit"])
        assert store <= 0.4 * num_bytes(container["resources"]["limits"]["memory"])
    [gpu] = groups["gpu"]["template"]["spec"]["containers"]
    assert gpu["resources"]["limits"]["nvidia.com/gpu"] == "1"


def num_bytes(quantity):
    return int(quantity.removesuffix("Gi")) * 2**30


def test_no_file_holds_a_secret_and_every_reference_leads_somewhere():
    assert not [each for each in ALL if each["kind"] == "Secret"]
    place = named("ConfigMap", "laformer-place")
    assert storage.is_remote(place["data"]["LAFORMER_STORE"])
    guide = (INFRA / "README.md").read_text()
    for container in containers(ALL):
        for source in container.get("envFrom", []):
            [(kind, reference)] = source.items()
            if kind == "configMapRef":
                assert reference["name"] == "laformer-place"
            else:
                assert f"secret generic {reference['name']}" in guide
        for variable in container.get("env", []):
            assert "value" not in variable
            assert f"secret generic {variable['valueFrom']['secretKeyRef']['name']}" in guide
    for spec in (CLUSTER["spec"], *(job["spec"]["rayClusterSpec"] for job in JOBS.values())):
        assert f"secret generic {spec['authOptions']['secretName']}" in guide
    assert place["data"]["MLFLOW_TRACKING_URI"] == "http://laformer-mlflow:5000"
    for path in INFRA.rglob("*"):
        if path.is_file():
            assert not re.search(r"AKIA[0-9A-Z]{16}|BEGIN .*PRIVATE KEY", path.read_text()), path


def test_every_service_and_claim_is_used_and_every_policy_selects_something():
    labels = [
        each["spec"]["template"]["metadata"]["labels"]
        for each in ALL
        if each["kind"] == "Deployment"
    ]
    for service in (each for each in ALL if each["kind"] == "Service"):
        assert any(service["spec"]["selector"].items() <= found.items() for found in labels)
    ray_nodes = {"ray.io/is-ray-node": "yes", "ray.io/node-type": "head"}
    for policy in (each for each in ALL if each["kind"] == "NetworkPolicy"):
        wanted = policy["spec"]["podSelector"].get("matchLabels", {})
        assert any(wanted.items() <= found.items() for found in (*labels, ray_nodes)), policy
    claims = {each["metadata"]["name"] for each in ALL if each["kind"] == "PersistentVolumeClaim"}
    used = re.findall(r"claimName: ([\w-]+)", (INFRA / "kubernetes/services.yaml").read_text())
    assert set(used) == claims


def test_nothing_comes_in_by_default_and_the_host_s_credentials_stay_out_of_reach():
    closed = named("NetworkPolicy", "laformer-nothing-comes-in")["spec"]
    assert closed == {"podSelector": {}, "policyTypes": ["Ingress"]}
    outgoing = named("NetworkPolicy", "laformer-what-goes-out")["spec"]["egress"]
    [block] = [peer["ipBlock"] for rule in outgoing for peer in rule["to"] if "ipBlock" in peer]
    assert block["except"] == ["169.254.169.254/32"]
    for policy in (each for each in ALL if each["kind"] == "NetworkPolicy"):
        for rule in policy["spec"].get("ingress", []):
            assert all(peer for peer in rule["from"]), "an empty peer is everybody"


def test_ray_and_mlflow_understand_their_options():
    from mlflow.cli import server
    from ray.scripts.scripts import start

    [mlflow] = containers(named("Deployment", "laformer-mlflow"))
    assert mlflow["command"] == ["mlflow", "server"]
    server.make_context("server", list(mlflow["args"]), resilient_parsing=False)
    groups = [CLUSTER["spec"]["headGroupSpec"], *CLUSTER["spec"]["workerGroupSpecs"]]
    for group in groups:
        options = [f"--{key}={value}" for key, value in group["rayStartParams"].items()]
        start.make_context("start", options)
    launcher = yaml.safe_load((INFRA / "launcher.yaml").read_text())
    for name in ("head_start_ray_commands", "worker_start_ray_commands"):
        stop, command = launcher[name]
        assert stop == "ray stop"
        start.make_context("start", shlex.split(command)[2:])


def test_the_launcher_s_file_is_one_to_ray():
    schema = json.loads((Path(ray.autoscaler.__file__).parent / "ray-schema.json").read_text())
    launcher = yaml.safe_load((INFRA / "launcher.yaml").read_text())
    jsonschema.validate(launcher, schema)
    types = launcher["available_node_types"]
    assert launcher["head_node_type"] in types
    assert types["head"]["resources"] == {"CPU": 0}
    assert "InstanceMarketOptions" not in types["head"]["node_config"]
    for name in ("gpu", "data"):
        assert types[name]["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
        assert types[name]["node_config"]["MetadataOptions"]["HttpTokens"] == "required"


def test_the_script_for_slurm_runs_a_command_of_ours():
    from ray.scripts.symmetric_run import curate_and_validate_ray_start_args

    text = (INFRA / "slurm.sh").read_text().replace("\\\n", " ")
    [line] = re.findall(r"^srun .*$", text, re.MULTILINE)
    options, _, command = line.partition(" -- ")
    words = shlex.split(command)
    assert words[0] == "env"
    assert words[1].startswith("RAY_ADDRESS=")
    understood(shlex.join(words[2:]))
    words = shlex.split(options)
    given = words[words.index("symmetric-run") + 1 :]
    curate_and_validate_ray_start_args(given)
    assert "--exclusive" in text


def test_the_image_holds_what_it_copies_and_runs_as_nobody_special():
    text = (INFRA / "Dockerfile").read_text()
    copied = [
        name for line in re.findall(r"^COPY (.*) \S+$", text, re.MULTILINE) for name in line.split()
    ]
    allowed = re.findall(r"^!(.*)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    assert set(copied) == set(allowed)
    assert all((ROOT / name).exists() for name in copied)
    assert re.findall(r"^FROM (\S+) AS (\w+)$", text, re.MULTILINE) == [
        ("python:${PYTHON}-slim-bookworm", "base"),
        ("base", "cuda"),
        ("base", "cpu"),
        ("${DEVICE}", "final"),
    ]
    assert text.count("--constraint constraints.txt") == 2
    assert text.rindex("USER 1000:1000") > text.rindex("RUN ")
    [step] = re.findall(r'RUN python -c "(.*)" >', text)
    assert "tomllib" in step


def test_the_commands_of_its_page_are_understood():
    text = (INFRA / "README.md").read_text().replace("\\\n", " ")
    commands = re.findall(r"^\$ (laformer .*?)(?:  #.*)?$", text, re.MULTILINE)
    assert len(commands) >= 2
    for command in commands:
        cli.parse(shlex.split(command)[1:])
    for name in re.findall(r"kubectl apply -f (\S+)", text):
        assert (ROOT / name).exists(), name
