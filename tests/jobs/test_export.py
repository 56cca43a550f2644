"""A model becomes a graph that runs without this project."""

import pytest
import torch

from jobs.config import ExportJob
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
