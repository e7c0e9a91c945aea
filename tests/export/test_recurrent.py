"""Recurrent layers in ONNX and as PyTorch: unrolled, from a state of 0."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from exported import by_onnx, by_python

from rmpe_legacy import load_net
from rmpe_legacy.caffe.net import Net
from rmpe_legacy.cli import main
from rmpe_legacy.compare.verify import verify
from rmpe_legacy.engines import compile_net
from rmpe_legacy.errors import LayerError
from rmpe_legacy.export.onnx import to_onnx
from rmpe_legacy.formats.base import NetRunner

PARAM = "recurrent_param { num_output: 4 weight_filler { type: 'gaussian' std: 0.5 } }"


def network(folder: Path, kind: str = "LSTM", steps: int = 5, param: str = PARAM) -> Net:
    path = folder / "net.prototxt"
    path.write_text(f"""\
layer {{ name: "data" type: "Input" top: "x" top: "cont"
  input_param {{ shape {{ dim: [{steps}, 2, 3] }} shape {{ dim: [{steps}, 2] }} }} }}
layer {{ name: "r" type: "{kind}" bottom: "x" bottom: "cont" top: "y" {param} }}
layer {{ name: "end" type: "InnerProduct" bottom: "y" top: "end"
  inner_product_param {{ axis: 2 num_output: 2 weight_filler {{ type: "xavier" }} }} }}""")
    return load_net(path, keep_blobs=True)


def values(steps: int = 5, first: float = 1) -> dict[str, np.ndarray]:
    cont = np.ones((steps, 2), np.float32)
    cont[0], cont[steps // 2, 1] = first, 0
    return {"x": np.random.default_rng(1).normal(size=(steps, 2, 3)).astype(np.float32), "cont": cont}


@pytest.mark.parametrize("make", [by_onnx, by_python])
@pytest.mark.parametrize("steps", [1, 5])
@pytest.mark.parametrize("kind", ["LSTM", "RNN"])
def test_begins_with_a_state_of_zero_whatever_ran_before(kind: str, steps: int, make, tmp_path: Path):
    net = network(tmp_path, kind, steps)
    runner = make(net, tmp_path)
    for _ in range(2):  # leave a state behind
        net(**values(steps))
    verdict = verify(NetRunner(net, "net"), runner, values(steps))
    assert verdict.same, str(verdict)
    after = net(**values(steps))["end"].detach().numpy()
    first = runner.run(values(steps)).blobs["end"]
    assert not np.allclose(after, first)  # as cont says that the sequence goes on
    reset = net(**values(steps, first=0))["end"].detach().numpy()
    np.testing.assert_allclose(reset, first, atol=1e-5)


@pytest.mark.parametrize("make", [by_onnx, by_python])
def test_takes_any_number_of_streams_where_steps_have_an_axis_of_their_own(make, tmp_path: Path):
    path = tmp_path / "net.prototxt"
    text = """layer { name: "data" type: "Input" top: "image" input_param { shape { dim: [BATCH, 3, 4, 6] } } }
layer { name: "columns" type: "Permute" bottom: "image" top: "columns" permute_param { order: [3, 0, 1, 2] } }
layer { name: "cont" type: "ContinuationIndicator" bottom: "image" top: "cont"
  continuation_indicator_param { time_step: 6 } }
layer { name: "r" type: "LSTM" bottom: "columns" bottom: "cont" top: "y" PARAM }""".replace("PARAM", PARAM)
    path.write_text(text.replace("BATCH", "1"))
    written = load_net(path, dialect="mixed", keep_blobs=True)  # Permute is SSD's
    runner = make(written, tmp_path)
    path.write_text(text.replace("BATCH", "3"))
    other = load_net(path, dialect="mixed", keep_blobs=True)
    other.load_state_dict(written.state_dict())
    image = np.random.default_rng(2).normal(size=(3, 3, 4, 6)).astype(np.float32)
    verdict = verify(NetRunner(other, "net"), runner, {"image": image})
    assert verdict.same, str(verdict)
    assert verdict.differences[-1].shapes[0] == (6, 3, 4)


@pytest.mark.parametrize("suffix", ["onnx", "py"])
def test_a_layer_that_gives_constants_is_no_input(suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = tmp_path / "net.prototxt"
    path.write_text("""layer { name: "data" type: "Input" top: "x" input_param { shape { dim: [5, 2, 3] } } }
layer { name: "cont" type: "ContinuationIndicator" top: "cont"
  continuation_indicator_param { time_step: 5 batch_size: 2 } }
layer { name: "r" type: "LSTM" bottom: "x" bottom: "cont" top: "y" PARAM }""".replace("PARAM", PARAM))
    torch.save(load_net(path).state_dict(), tmp_path / "net.pt")
    code = main(["convert", str(path), str(tmp_path / "net.pt"), str(tmp_path / f"o.{suffix}")])
    out, err = capsys.readouterr()
    assert code == 0, err
    assert "the same: " in out


@pytest.mark.parametrize("suffix", ["onnx", "py"])
def test_says_that_the_state_is_lost(suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    net = network(tmp_path)
    torch.save(net.state_dict(), tmp_path / "net.pt")
    code = main(["convert", str(tmp_path / "net.prototxt"), str(tmp_path / "net.pt"), str(tmp_path / f"o.{suffix}")])
    out, err = capsys.readouterr()
    assert code == 0, err
    assert "the same: 2 blobs " in out
    assert ("net.prototxt:3:1: r (LSTM): begins each run with a state of 0; in Caffe, where cont is not 0 at the first "
            "step, a forward goes on from the state of the one before") in err


def test_an_engine_that_would_lose_the_state_is_refused(tmp_path: Path):
    with pytest.raises(LayerError, match=r"r \(LSTM\): engine 'onnxruntime' does not keep its state"):
        compile_net(network(tmp_path), "onnxruntime")


LSTM_OF_CTPN = """layer { name: "data" type: "Input" top: "x" top: "flags"
  input_param { shape { dim: [4, 3, 2] } shape { dim: [4, 3] } } }
layer { name: "r" type: "Lstm" bottom: "x" bottom: "flags" top: "y"
  lstm_param { num_output: 5 weight_filler { type: "gaussian" std: 0.5 } bias_filler { type: "constant" value: 0.1 } } }
"""
SCALE_TANH = """layer { name: "data" type: "Input" top: "x" input_param { shape { dim: [2, 3] } } }
layer { name: "r" type: "ScaleTanH" bottom: "x" top: "y"
  scale_tanh_param { init_scale: 0.5 step_size: 2 gamma: 0.3 power: 0.5 } }
"""


@pytest.mark.parametrize("make", [by_onnx, by_python])
@pytest.mark.parametrize("text", [LSTM_OF_CTPN, SCALE_TANH], ids=["Lstm", "ScaleTanH"])
def test_what_a_fork_keeps_between_forwards_is_as_in_the_first(text: str, make, tmp_path: Path):
    path = tmp_path / "net.prototxt"
    path.write_text(text)
    net = load_net(path, keep_blobs=True)
    rng = np.random.default_rng(2)
    values = {name: (rng.uniform(size=shape) < 0.7 if name == "flags" else rng.normal(size=shape)).astype(np.float32)
              for name, shape in net.inputs.items()}
    first = net(**values)["y"].detach().numpy()
    runner = make(net, tmp_path)  # after a forward
    np.testing.assert_allclose(runner.run(values).blobs["y"], first, atol=1e-6)
    assert verify(NetRunner(net, "net"), runner, values).same
    for _ in range(2):
        after = net(**values)["y"].detach().numpy()
    assert not np.allclose(after, first)


@pytest.mark.parametrize(("text", "said"), [
    (LSTM_OF_CTPN, "r (Lstm): begins each run with a state of 0; in the fork, where the first step's flag is not 0"),
    (SCALE_TANH, "r (ScaleTanH): keeps the scale of a first forward; in the fork, it changes as the network runs")],
    ids=["Lstm", "ScaleTanH"])
def test_what_is_lost_between_forwards_is_said(text: str, said: str, tmp_path: Path):
    path = tmp_path / "net.prototxt"
    path.write_text(text)
    (note,) = to_onnx(load_net(path))[1].notes()
    assert said in note
