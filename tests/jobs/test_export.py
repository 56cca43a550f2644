"""A model becomes a graph that runs without this project."""

import pytest
import torch

from jobs.config import ExportJob
from jobs.errors import JobError
from jobs.export import run
from laformer import checkpoint
from tests import networks


@pytest.mark.slow
def test_a_checkpoint_becomes_a_graph_and_nothing_else_is_left(tmp_path):
    folder = tmp_path / "model"
    checkpoint.save(folder, networks.state(networks.config()), {})
    target = run(ExportJob(target=str(tmp_path / "graphs" / "model.pt2"), model=str(folder)))
    lq = torch.rand(1, 3, 24, 40)
    expected = checkpoint.load_model(folder)(lq).detach()
    graph = torch.export.load(target).module()
    torch.testing.assert_close(graph(lq), expected, rtol=1e-4, atol=1e-5)
    assert list(target.parent.iterdir()) == [target]


def test_a_checkpoint_becomes_a_folder_that_others_load(tmp_path):
    folder, target = tmp_path / "model", tmp_path / "hub" / "laformer"
    checkpoint.save(folder, networks.state(networks.config()), {})
    for _ in range(2):
        assert run(ExportJob(target=str(target), model=str(folder))) == target
    assert list(target.parent.iterdir()) == [target]
    assert checkpoint.load_model(target / "model.safetensors").config == networks.MODEL
    (target / checkpoint.SUMS).unlink()
    with pytest.raises(JobError, match="is there and is no model; name a folder that is not there"):
        run(ExportJob(target=str(target), model=str(folder)))
