"""The packaged model: any images, the pixels of `Restorer`, and nothing but what it states."""

import json
import os
import subprocess
import sys
import urllib.request
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import mlflow.pyfunc
import numpy as np
import pytest
from mlflow.exceptions import MlflowException
from packaging.requirements import Requirement

from jobs.tracking import Tracker
from jobs.versions import packaging, served
from jobs.versions.registry import CHAMPION, RELEASED, Registry
from laformer import checkpoint
from laformer.loop import State
from laformer.model import LAformer
from laformer.restore import Restorer
from tests.jobs.test_tracking import free_port, wait_until
from tests.networks import MODEL, config

RNG = np.random.default_rng(0)
LEVELS = RNG.integers(0, 256, (2, 19, 26, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    folder = tmp_path_factory.mktemp("released")
    checkpoint.save(folder / "c", State.create(LAformer(MODEL), config()), {})
    checkpoint.release(folder / "c", folder / "r")
    return folder / "r"


@pytest.fixture(scope="module")
def packaged(released, tmp_path_factory):
    target = tmp_path_factory.mktemp("packaged") / "m"
    packaging.package(released, target)
    return target


@pytest.fixture(scope="module")
def model(packaged):
    return mlflow.pyfunc.load_model(str(packaged))


@pytest.fixture(scope="module")
def restore(released):
    return Restorer.load(released)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_a_batch_comes_back_in_its_dtype_as_the_network_restores_it(model, restore, dtype):
    images = LEVELS.astype(dtype) if dtype != np.float32 else (LEVELS / 255).astype(dtype)
    restored = model.predict(images)
    assert restored.dtype == dtype
    assert np.array_equal(restored, np.stack([restore(image) for image in images]))


def test_images_of_several_sizes_are_one_batch(model, restore):
    images = np.empty(2, dtype=object)
    images[0], images[1] = LEVELS[0], LEVELS[1, :16, :8]
    restored = model.predict(images)
    assert restored.shape == (2,)
    assert all(
        np.array_equal(got, restore(want)) for got, want in zip(restored, images, strict=True)
    )


def test_json_has_levels_as_whole_numbers_and_floats_with_a_point():
    assert np.array_equal(served.pixels(LEVELS[0].tolist()), LEVELS[0])
    objects = np.array(LEVELS[0].tolist(), dtype=object)
    assert served.pixels(objects).dtype == np.uint8
    floats = served.pixels((LEVELS[0] / 255).tolist())
    assert floats.dtype == np.float32
    assert floats.max() <= 1


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (LEVELS[0].astype(np.float32), "floats reach 255 but white is 1; divide by 255"),
        (LEVELS[0].astype(np.int64) * 300, "levels from 0 to .* are not 0 to 255"),
        (LEVELS[0] > 3, "dtype bool is no image"),
        (LEVELS[0, :, :, 0], r"shape \(19, 26\), not \(H, W, C\); give a batch"),
        (LEVELS[0, :, :, :2], "the image has 2 channels but the model takes 3"),
    ],
)
def test_what_is_no_image_is_explained(model, image, message):
    with pytest.raises(MlflowException, match=message):
        model.predict(image[None])


def test_the_package_states_what_it_needs_and_holds_no_pickle(packaged, released):
    names = {path.name for path in packaged.rglob("*") if path.is_file()}
    assert not [name for name in names if name.endswith((".pkl", ".pickle", ".pt", ".pth"))]
    assert {"served.py", "input_example.json", "serving_input_example.json"} <= names
    assert requirements(packaged) == {"mlflow", "numpy", "safetensors", "torch"}
    inside = packaged / RELEASED
    assert (inside / checkpoint.SUMS).read_bytes() == (released / checkpoint.SUMS).read_bytes()
    signature = mlflow.models.get_model_info(str(packaged)).signature
    assert str(signature.inputs) == "[Tensor('object', (-1,))]"


ALONE = """
import sys
sys.path[:0] = sys.argv[1:2]
import mlflow.pyfunc, numpy as np
model = mlflow.pyfunc.load_model(sys.argv[2])
np.save(sys.argv[4], model.predict(np.load(sys.argv[3])))
import laformer
print(laformer.__file__)
print(sorted({"jobs", "pipelines", "ray", "cv2", "tyro", "s3fs"} & sys.modules.keys()))
for name in ("jobs", "ray", "cv2"):
    try:
        __import__(name)
    except ModuleNotFoundError:
        continue
    print("found", name)
"""


def requirements(folder):
    lines = (folder / "requirements.txt").read_text().splitlines()
    return {Requirement(line).name for line in lines}


def closure(names):
    """Return the distributions that these and their requirements are, without extras."""
    found, waiting = {}, list(names)
    while waiting:
        name = waiting.pop().lower().replace("_", "-")
        if name in found:
            continue
        try:
            found[name] = distribution(name)
        except PackageNotFoundError:
            continue
        for line in found[name].requires or []:
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                waiting.append(requirement.name)
    return found.values()


def stand_alone(names, folder):
    """Fill a folder with links to the files of what is required, and nothing else."""
    folder.mkdir()
    for each in closure(names):
        for file in each.files or []:
            top = file.parts[0]
            if top not in ("..", "__pycache__") and not (folder / top).exists():
                (folder / top).symlink_to(each.locate_file(top))
    return folder


def test_a_registered_model_restores_where_only_its_requirements_are(
    released, model, tmp_path, monkeypatch
):
    monkeypatch.setenv("LAFORMER_STORE", str(tmp_path / "store"))
    registry = Registry(f"sqlite:///{tmp_path / 'mlflow.db'}")
    run_id = Tracker(registry.uri).continue_run("e", "store/train/served", {})
    version = registry.register("m", released, run_id, {"sha256": "1"})
    registry.promote(version)
    assert int(registry.resolve("m/1").tags["num_bytes"]) > 10_000
    site = stand_alone(requirements(registry.fetch(version, tmp_path)), tmp_path / "site")
    np.save(tmp_path / "lq.npy", LEVELS)
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}
    arguments = [site, f"models:/m@{CHAMPION}", tmp_path / "lq.npy", tmp_path / "restored.npy"]
    found = subprocess.run(
        [sys.executable, "-I", "-S", "-c", ALONE, *map(str, arguments)],
        env=environment | {"MLFLOW_TRACKING_URI": registry.uri},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    where, imported = found.stdout.splitlines()
    assert where.endswith("code/laformer/__init__.py")
    assert imported == "[]"
    assert np.array_equal(np.load(tmp_path / "restored.npy"), model.predict(LEVELS))


def test_mlflow_serves_the_same_pixels(packaged, model, tmp_path):
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", str(packaged)]
    command += ["--env-manager", "local", "--host", "127.0.0.1", "--port", str(port)]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # MLflow starts uvicorn
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(
            command, stdout=log, stderr=log, cwd=tmp_path, env=os.environ | {"PATH": path}
        )
    try:
        wait_until(lambda: answers(f"http://127.0.0.1:{port}/ping"))
        asked = json.dumps({"inputs": LEVELS.tolist()}).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/invocations",
            asked,
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request) as answer:
            restored = np.array(json.load(answer)["predictions"])
        assert np.array_equal(restored, model.predict(LEVELS))
    finally:
        server.terminate()
        server.wait()


def answers(url):
    try:
        with urllib.request.urlopen(url) as answer:
            return answer.status == 200
    except OSError:
        return False


def test_a_request_in_json_is_answered_with_the_same_pixels(packaged, model):
    from mlflow.pyfunc import scoring_server

    asked = Path(packaged / "serving_input_example.json").read_text()
    loaded = mlflow.pyfunc.load_model(str(packaged))
    schema = loaded.metadata.get_input_schema()
    answer = scoring_server.invocations(asked, "application/json", loaded, schema)
    assert answer.status == 200
    example = packaging.example(3)
    assert np.array_equal(json.loads(answer.response)["predictions"], model.predict(example))
