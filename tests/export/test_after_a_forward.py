"""A network is exported for the sizes in the prototxt, whatever it ran on before."""

from __future__ import annotations

from pathlib import Path

import torch
from engine_networks import EVERYTHING, everything

from rmpe_legacy.export.graph import make_graph
from rmpe_legacy.export.onnx import to_onnx
from rmpe_legacy.export.python_source import to_python


def test_a_forward_of_another_batch_and_size_before_changes_nothing(tmp_path: Path):
    text = EVERYTHING[: EVERYTHING.index('layer { name: "fc"')]
    fresh, used = everything(tmp_path, text), everything(tmp_path, text)
    with torch.no_grad():
        used(torch.zeros(5, 3, 30, 44))
    before, after = make_graph(fresh), make_graph(used)
    assert after.final == before.final
    assert after.is_dynamic
    assert to_onnx(used)[0] == to_onnx(fresh)[0]
    assert to_python(used, "a test", "net.pt").text == to_python(fresh, "a test", "net.pt").text
