"""What a run says of the machines and versions that it runs on."""

import numpy as np
import pytest

from jobs import environment


def test_versions_are_those_that_are_installed(monkeypatch):
    monkeypatch.setattr(environment, "PACKAGES", ("numpy", "no-such-package"))
    found = environment.versions()
    assert found["version.numpy"] == np.__version__
    assert found["version.no-such-package"] == "not installed"
    assert found["version.python"].startswith("3.")


@pytest.mark.parametrize(
    ("resources", "words"),
    [
        ({"CPU": 2.0, "memory": 1e9}, "2 CPU"),
        ({"CPU": 64.0, "GPU": 8.0, "accelerator_type:H200": 1.0}, "64 CPU, 8 GPU (H200)"),
        ({"GPU": 1.0}, "0 CPU, 1 GPU"),
    ],
)
def test_devices_are_said_in_words(monkeypatch, resources, words):
    monkeypatch.setattr(environment.ray, "cluster_resources", lambda: resources)
    assert environment.devices() == words
