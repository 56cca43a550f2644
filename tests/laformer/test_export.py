"""Graphs give what the network gives, at sizes they were not made with."""

import dataclasses

import pytest
import torch
from torch import nn

from laformer.export import export, save_onnx
from laformer.model import LAformer
from tests.networks import MODEL

SIZES = [(1, 3, 16, 40), (3, 3, 32, 24)]


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    model = LAformer(dataclasses.replace(MODEL, scale=2)).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.1)
    return model


@pytest.fixture(scope="module")
def program(model):
    return export(model)


def test_exported_graph_equals_eager(model, program):
    graph = program.module()
    for size in SIZES:
        lq = torch.rand(size)
        torch.testing.assert_close(graph(lq), model(lq).detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore::Warning")  # of the exporter and of what it is made of
def test_onnx_equals_eager(model, program, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    save_onnx(program, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(
        tmp_path / "model.onnx", providers=["CPUExecutionProvider"]
    )
    for size in SIZES:
        lq = torch.rand(size)
        (restored,) = session.run(None, {"lq": lq.numpy()})
        expected = model(lq).detach()
        torch.testing.assert_close(torch.from_numpy(restored), expected, rtol=1e-4, atol=1e-5)


def test_compiling_needs_no_graph_breaks_and_one_graph_for_many_sizes(model):
    graphs = []

    def backend(graph, _):
        graphs.append(graph)
        return graph.forward

    compiled = torch.compile(model, fullgraph=True, dynamic=True, backend=backend)
    with torch.no_grad():
        for height, width in [(16, 24), (32, 40), (64, 16)]:
            lq = torch.rand(1, 3, height, width)
            torch.testing.assert_close(compiled(lq), model(lq))
    assert len(graphs) == 1


@pytest.mark.slow
def test_compiling_needs_no_graph_breaks_at_odd_sizes(model):
    compiled = torch.compile(model, fullgraph=True, dynamic=True, backend="eager")
    with torch.no_grad():
        for size in [(13, 21), (8, 8), (1, 1), (30, 7)]:
            lq = torch.rand(1, 3, *size)
            torch.testing.assert_close(compiled(lq), model(lq), rtol=1e-4, atol=1e-5)
