"""A small network that runs in one call computes what the network computes, whatever its layers and sizes."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from engine_networks import everything

from rmpe_legacy.caffe.layers.neuron import PReLU
from rmpe_legacy.caffe.net import Net
from rmpe_legacy.engines import small
from rmpe_legacy.engines.passes import optimize
from rmpe_legacy.engines.small import SmallNet
from rmpe_legacy.errors import NetError
from rmpe_legacy.export.graph import make_graph
from rmpe_legacy.ops import small_net

pytestmark = pytest.mark.skipif(not small_net.IS_FAST, reason="only with vector loops is it faster")

DATA = 'name: "small" input: "data" input_shape {{ dim: 2 dim: {} dim: {} dim: {} }}\n'
CASCADE = DATA.format(3, 12, 12) + """
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
  convolution_param { num_output: 10 kernel_size: 3 } }
layer { name: "prelu1" type: "PReLU" bottom: "conv1" top: "conv1" }
layer { name: "pool1" type: "Pooling" bottom: "conv1" top: "pool1" pooling_param { kernel_size: 2 stride: 2 } }
layer { name: "conv2" type: "Convolution" bottom: "pool1" top: "conv2"
  convolution_param { num_output: 16 kernel_size: 3 } }
layer { name: "prelu2" type: "PReLU" bottom: "conv2" top: "conv2" }
layer { name: "conv3" type: "Convolution" bottom: "conv2" top: "conv3"
  convolution_param { num_output: 32 kernel_size: 3 } }
layer { name: "prelu3" type: "PReLU" bottom: "conv3" top: "conv3" }
layer { name: "conv4-1" type: "Convolution" bottom: "conv3" top: "conv4-1"
  convolution_param { num_output: 2 kernel_size: 1 } }
layer { name: "conv4-2" type: "Convolution" bottom: "conv3" top: "conv4-2"
  convolution_param { num_output: 4 kernel_size: 1 } }
layer { name: "prob1" type: "Softmax" bottom: "conv4-1" top: "prob1" }
"""
"""The layers of MTCNN's first network."""


def layer(kind: str, options: str = "", bottom: str = "data", top: str = "top", name: str = "layer") -> str:
    bottoms = " ".join(f'bottom: "{each}"' for each in bottom.split())
    return f'layer {{ name: "{name}" type: "{kind}" {bottoms} top: "{top}" {options} }}\n'


def conv(options: str, bottom: str = "data", top: str = "top", name: str = "conv") -> str:
    return layer("Convolution", f"convolution_param {{ {options} }}", bottom, top, name)


def kernel_of(net: Net) -> Any:
    """Return the kernel that computes a whole network; None if there is none."""
    return optimize(make_graph(net)).whole


def assert_computes_the_same(net: Net, batches: tuple[int, ...] = (1, 2, 5)) -> None:
    compiled = net.compiled("torch", verify=False)
    engine = compiled.prepared.engine
    assert isinstance(engine.program.plan.whole, SmallNet)
    for batch in batches:
        random = torch.Generator().manual_seed(batch)
        x = {name: torch.randn((batch, *shape[1:]), generator=random) for name, shape in net.inputs.items()}
        with torch.no_grad():
            expected = net(x)
        found, alone = compiled(x), engine.blobs(x)
        assert list(found) == list(expected)
        assert all(torch.equal(alone[blob], found[blob]) for blob in expected)
        for blob, value in expected.items():
            assert found[blob].is_contiguous()
            torch.testing.assert_close(found[blob], value, rtol=0, atol=3e-6 * float(value.abs().max() + 1))


# --- layers ------------------------------------------------------------------------------------------------------


def test_a_cascades_network_is_one_call(tmp_path: Path):
    net = everything(tmp_path, CASCADE)
    assert_computes_the_same(net)
    assert net.compiled("torch").proof.worst < 1e-5


@pytest.mark.parametrize("size", [(1, 5, 7), (3, 9, 8), (16, 6, 6), (17, 5, 4), (40, 8, 9)], ids=str)
@pytest.mark.parametrize("options", [
    "num_output: 1 kernel_size: 1", "num_output: 16 kernel_size: 3", "num_output: 17 kernel_size: 3 pad: 1",
    "num_output: 7 kernel_h: 1 kernel_w: 4 pad_w: 2", "num_output: 33 kernel_h: 3 kernel_w: 2 stride: 2",
    "num_output: 50 kernel_size: 2 stride_h: 3 stride_w: 1 pad_h: 1",
    "num_output: 65 kernel_size: 3 pad: 3 dilation: 2",
    "num_output: 9 kernel_size: 3 pad: 1 stride: 2 bias_term: false", "num_output: 100 kernel_size: 4"])
def test_convolution(size: tuple[int, int, int], options: str, tmp_path: Path):
    assert_computes_the_same(everything(tmp_path, DATA.format(*size) + conv(options)))


@pytest.mark.parametrize("options", ["num_output: 12 group: 2", "num_output: 6 group: 6 pad: 1",
                                     "num_output: 51 group: 3 stride: 2", "num_output: 12 group: 3 dilation: 2"])
@pytest.mark.parametrize("activation", ["ReLU", "PReLU"])
def test_groups(options: str, activation: str, tmp_path: Path):
    text = DATA.format(6, 9, 7) + conv(options + " kernel_size: 3") + layer(activation, bottom="top")
    assert_computes_the_same(everything(tmp_path, text))


@pytest.mark.parametrize("activation", [
    layer("ReLU", bottom="top"), layer("ReLU", "relu_param { negative_slope: 0.1 }", bottom="top"),
    layer("PReLU", bottom="top"), layer("PReLU", "prelu_param { channel_shared: true }", bottom="top"),
    layer("PReLU", bottom="top", top="apart")], ids=["ReLU", "leaky", "PReLU", "shared", "apart"])
@pytest.mark.parametrize("between", ["", layer("Pooling", "pooling_param { kernel_size: 2 }", "top", "pooled", "pool")],
                         ids=["in the convolution", "alone"])
def test_activations(activation: str, between: str, tmp_path: Path):
    """In the convolution that makes their bottom, or on their own."""
    if between:
        activation = activation.replace('"top"', '"pooled"')
    assert_computes_the_same(everything(tmp_path, DATA.format(3, 8, 7) + conv("num_output: 21 kernel_size: 3") + between
                                        + activation))


def test_inputs_of_one_value_per_image(tmp_path: Path):
    """Beside an input that parameters read: an input of one axis has none but the batch."""
    inputs = "".join(layer("Input", f"input_param {{ shape {{ {dims} }} }}", "", name, name)
                     for name, dims in (("a", "dim: 4"), ("b", "dim: 4"), ("c", "dim: 4 dim: 3")))
    text = inputs + layer("Eltwise", "", "a b", "sum", "sum") + layer(
        "InnerProduct", "inner_product_param { num_output: 2 }", "c")
    assert_computes_the_same(everything(tmp_path, text))


def test_an_activation_leaves_a_value_that_others_read(tmp_path: Path):
    text = (DATA.format(3, 8, 7) + conv("num_output: 5 kernel_size: 3", top="a") + layer("ReLU", "", "a", "b", "relu")
            + layer("Eltwise", "", "a b"))
    assert_computes_the_same(everything(tmp_path, text))


@pytest.mark.parametrize("size", [(3, 9, 8), (20, 7, 10), (16, 4, 4)], ids=str)
@pytest.mark.parametrize("options", [
    "kernel_size: 2 stride: 2", "kernel_size: 3 stride: 2", "kernel_size: 3 stride: 2 pad: 1",
    "kernel_h: 1 kernel_w: 3 stride_h: 1 stride_w: 2", "global_pooling: true", "pool: AVE kernel_size: 3 stride: 2",
    "pool: AVE kernel_size: 3 stride: 2 pad: 1", "pool: AVE kernel_h: 3 kernel_w: 2", "pool: AVE global_pooling: true"])
def test_pooling(size: tuple[int, int, int], options: str, tmp_path: Path):
    text = DATA.format(*size) + layer("Pooling", f"pooling_param {{ {options} }}", top="pool")
    assert_computes_the_same(everything(tmp_path, text + conv("num_output: 3 kernel_size: 1", "pool", "conv")))


@pytest.mark.parametrize("before", ["", conv("num_output: 5 kernel_size: 2 pad: 1", top="conv"),
                                    layer("Pooling", "pooling_param { global_pooling: true }", top="conv")],
                         ids=["data", "convolution", "pooling"])
@pytest.mark.parametrize("options", ["num_output: 33", "num_output: 4 transpose: true",
                                     "num_output: 20 bias_term: false"])
def test_inner_product(before: str, options: str, tmp_path: Path):
    """It reads its bottom in the order of channels, rows and columns."""
    text = DATA.format(7, 6, 5) + before + layer("InnerProduct", f"inner_product_param {{ {options} }}",
                                                 "conv" if before else "data", "fc")
    text += layer("ReLU", bottom="fc", top="fc") + layer("InnerProduct", "inner_product_param { num_output: 3 }", "fc",
                                                         "last", "last")
    assert_computes_the_same(everything(tmp_path, text + layer("Softmax", bottom="last", top="prob", name="prob")))


@pytest.mark.parametrize("rest", [
    layer("Softmax", bottom="a"), layer("Eltwise", "", "a b"), layer("Eltwise", "", "a b a data2"),
    layer("Eltwise", "eltwise_param { coeff: 2 coeff: -0.5 coeff: 3 }", "a b a"),
    layer("Eltwise", "eltwise_param { operation: PROD }", "a b"),
    layer("Eltwise", "eltwise_param { operation: MAX }", "b a"),
    layer("Concat", "", "a b"), layer("Concat", "", "a data a"), layer("Flatten", "", "a"),
    layer("Reshape", "reshape_param { shape { dim: 0 dim: -1 } }", "a"), layer("BatchNorm", "", "a"),
    layer("Scale", "scale_param { bias_term: true }", "data"),
    layer("Power", "power_param { scale: 0.1 shift: -2 }", "a"),
    layer("Power", "power_param { scale: 0.1 shift: -2 }", "data"),
    layer("Flatten", "", "a", "flat", "flat") + layer("Flatten", "", "b", "flat2", "flat2")
    + layer("Concat", "", "flat flat2")])
def test_other_layers(rest: str, tmp_path: Path):
    text = (DATA.format(6, 5, 4) + conv("num_output: 6 kernel_size: 1", top="a", name="a")
            + conv("num_output: 6 kernel_size: 1", top="b", name="b")
            + (layer("ReLU", "", "data", "data2", "data2") if "data2" in rest else ""))
    assert_computes_the_same(everything(tmp_path, text + rest))


def test_several_inputs(tmp_path: Path):
    text = (DATA.format(3, 8, 7) + 'input: "other" input_shape { dim: 2 dim: 5 dim: 4 dim: 3 }\n'
            + conv("num_output: 5 kernel_h: 5 kernel_w: 5") + layer("Eltwise", "", "top other", "sum", "sum")
            + layer("Concat", "", "sum other", "both", "both"))
    assert_computes_the_same(everything(tmp_path, text))


def test_the_input_and_blobs_that_layers_read_can_be_outputs(tmp_path: Path):
    net = everything(tmp_path, CASCADE)
    compiled = net.compiled("torch", blobs=["pool1", "data", "conv3"])
    assert compiled.prepared.engine.program.plan.whole is not None
    x = torch.randn(3, 3, 12, 12)
    found = compiled(x)
    net.keep_blobs = True
    with torch.no_grad():
        net(x)
    assert torch.equal(found["data"], x)
    for blob in ("pool1", "conv3", "prob1"):
        expected = net.blobs[blob]
        torch.testing.assert_close(found[blob], expected, rtol=0, atol=3e-6 * float(expected.abs().max() + 1))


# --- which networks ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [
    DATA.format(3, 8, 8) + conv("num_output: 4 kernel_size: 3") + layer("LRN", bottom="top", top="lrn"),
    DATA.format(3, 8, 8) + conv("num_output: 4 kernel_size: 3") + layer("Softmax", "softmax_param { axis: 2 }", "top"),
    DATA.format(3, 8, 8) + conv("num_output: 4 kernel_size: 3") + layer("Concat", "concat_param { axis: 2 }", "top top",
                                                                        "both"),
    DATA.format(3, 8, 8) + conv("num_output: 4 kernel_size: 3") + layer("Concat", "concat_param { axis: 0 }", "top top",
                                                                        "both"),
    DATA.format(4, 8, 8) + conv("num_output: 4 kernel_size: 3")
    + layer("Reshape", "reshape_param { shape { dim: 0 dim: 2 dim: -1 } }", "top", "apart"),
    DATA.format(3, 9, 8) + layer("Pooling", "pooling_param { pool: AVE kernel_size: 2 stride: 3 }")  # one lies outside
    + layer("InnerProduct", "inner_product_param { num_output: 2 }", "top", "fc"),
    DATA.format(3, 8, 8) + layer("ReLU"),
    DATA.format(64, 40, 40) + conv("num_output: 64 kernel_size: 3")], ids=range(8))
def test_networks_that_do_not_fit_keep_their_kernels(text: str, tmp_path: Path):
    net = everything(tmp_path, text)
    assert kernel_of(net) is None
    net.compiled("torch")


def test_the_pass_can_be_left_out_and_has_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    net = everything(tmp_path, CASCADE)
    assert optimize(make_graph(net), without=["small"]).whole is None
    products = 100 * 27 * 16 + 9 * 90 * 16 + 144 * 32 + 32 * 16 + 32 * 16  # outputs in blocks of 16
    for most, fits in ((products, True), (products - 1, False)):
        monkeypatch.setattr(small, "MOST_PRODUCTS", most)
        assert (kernel_of(net) is not None) == fits
    monkeypatch.undo()
    monkeypatch.setattr(small, "MOST_VALUES", 3 * 144 + 10 * 100)
    assert kernel_of(net) is None


# --- values, memory and threads ----------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_values_that_are_not_finite_are_those_of_the_engine_without_the_pass(value: float, tmp_path: Path):
    net = everything(tmp_path, CASCADE)
    whole, layers = (net.compiled("torch", blobs=["conv1", "pool1"], without=without) for without in ([], ["small"]))
    x = torch.randn(2, 3, 12, 12)
    x[0, 1, 5, 6] = value
    found, expected = whole(x), layers(x)
    for blob, of_layers in expected.items():
        assert torch.equal(found[blob].isnan(), of_layers.isnan())
        fine = of_layers.isfinite()
        assert torch.equal(found[blob][~fine & ~of_layers.isnan()], of_layers[~fine & ~of_layers.isnan()])
        most = float(of_layers[fine].abs().max())  # sums in another order differ relative to the range
        torch.testing.assert_close(found[blob][fine], of_layers[fine], rtol=0, atol=1e-5 * most)


def test_relu_keeps_nan_and_turns_minus_infinity_to_0(tmp_path: Path):
    net = everything(tmp_path, DATA.format(1, 1, 3) + conv("num_output: 1 kernel_size: 1 bias_term: false")
                     + layer("ReLU", bottom="top"))
    with torch.no_grad():
        next(net.parameters()).fill_(1)
    found = net.compiled("torch", verify=False)(torch.tensor([[[[float("nan"), float("-inf"), 2]]]]))["top"]
    assert str(found.flatten().tolist()) == "[nan, 0.0, 2.0]"


def test_an_empty_batch_and_strides_and_gradients(tmp_path: Path):
    net = everything(tmp_path, CASCADE)
    compiled = net.compiled("torch")
    assert {blob: tuple(value.shape) for blob, value in compiled(torch.zeros(0, 3, 12, 12)).items()} == {
        "conv4-2": (0, 4, 1, 1), "prob1": (0, 2, 1, 1)}
    x = torch.randn(4, 3, 12, 24)[:, :, :, ::2]
    expected = compiled(x.contiguous())
    for given in (x, x.contiguous(memory_format=torch.channels_last), x.clone().requires_grad_()):
        found = compiled(given)
        assert all(torch.equal(value, expected[blob]) for blob, value in found.items())
        assert not any(value.requires_grad for value in found.values())


def test_a_call_after_one_with_other_inputs(tmp_path: Path):
    """Of another type, size or form; the check of inputs like the last ones' is short."""
    net = everything(tmp_path, DATA.format(3, 12, 12) + conv("num_output: 4 kernel_size: 3"))
    compiled = net.compiled("torch")
    x = torch.randn(2, 3, 12, 12)
    with torch.no_grad():
        expected = net(x)["top"]
    for given in ({"data": x}, {"data": x}, {"data": x.double()}, {"data": x.numpy()}, {"data": x}, x, {"data": x}):
        torch.testing.assert_close(compiled(given)["top"], expected, rtol=0, atol=1e-5)
    for size in ((1, 3, 12, 12), (2, 3, 9, 14), (2, 3, 12, 12)):
        other = torch.randn(size)
        with torch.no_grad():
            torch.testing.assert_close(compiled({"data": other})["top"], net(other)["top"], rtol=0, atol=1e-5)
    for wrong in ({}, {"data": x, "other": x}, {"date": x}):
        with pytest.raises(NetError, match="input"):
            compiled(wrong)


def test_a_wrong_step_is_refused_and_the_first_blob_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def wrong(writer: Any, layer: Any, call: Any, size: Any, right: Any = small._WRITERS[PReLU]) -> Any:
        layer = copy.copy(layer)
        layer._parameters = {"slope": torch.nn.Parameter(layer.slope * (1.01 if call.name == "prelu2" else 1))}
        return right(writer, layer, call, size)

    net = everything(tmp_path, CASCADE)
    monkeypatch.setitem(small._WRITERS, PReLU, wrong)
    with pytest.raises(NetError, match=r"engine 'torch' is rejected: .* the first is conv2, computed by conv2 "
                                       r"\(Convolution\), prelu2 \(PReLU\)"):
        net.compiled("torch")


def test_the_time_of_each_layer(tmp_path: Path):
    engine = everything(tmp_path, CASCADE).compiled("torch").prepared.engine
    times = engine.layer_times({"data": torch.randn(1, 3, 12, 12)}, 2)
    assert list(times) == ["conv1", "prelu1", "pool1", "conv2", "prelu2", "conv3", "prelu3", "conv4-1", "conv4-2",
                           "prob1"]


def test_several_threads_may_call_it_and_copies_compute_the_same(tmp_path: Path):
    compiled = everything(tmp_path, CASCADE).compiled("torch")
    inputs = [torch.randn(batch, 3, 12, 12) for batch in (1, 2, 30, 64)]
    expected = [compiled(x) for x in inputs]
    same = copy.deepcopy(compiled)

    def call(i: int) -> bool:
        return all(torch.equal(value, expected[i][blob]) for _ in range(50) for net in (compiled, same)
                   for blob, value in net(inputs[i]).items())

    with ThreadPoolExecutor(len(inputs)) as pool:
        assert all(pool.map(call, range(len(inputs))))


BITS = """
import hashlib, sys
import numpy as np
import torch
from rmpe_legacy import load_net
from rmpe_legacy.engines.small import SmallNet
from rmpe_legacy.ops import small_net
small_net.IS_FAST = True
torch.set_num_threads(int(sys.argv[1]))
net = load_net(sys.argv[2])
random = np.random.default_rng(1)
for value in net.parameters():
    value.data = torch.from_numpy(random.standard_normal(value.shape, np.float32) / value[0].numel())
compiled = net.compiled("torch", verify=False, blobs=["conv1", "pool2", "sum"])
assert isinstance(compiled.prepared.engine.program.plan.whole, SmallNet)
x = torch.from_numpy(random.standard_normal((9, 5, 24, 23), np.float32))
found = [*compiled(x).values(), *compiled(x[:1]).values()]
print(hashlib.sha256(b"".join(value.numpy().tobytes() for value in found)).hexdigest())
"""


def test_bits_depend_neither_on_instruction_set_nor_on_threads(tmp_path: Path):
    """Of many images, which threads share out, and of one, whose convolution they share."""
    path = tmp_path / "net.prototxt"
    path.write_text(
        DATA.format(5, 24, 23) + conv("num_output: 37 kernel_size: 3 pad: 1", top="conv1", name="conv1")
        + layer("PReLU", "", "conv1", "conv1", "prelu1")
        + layer("Pooling", "pooling_param { pool: AVE kernel_size: 3 stride: 2 }", "conv1", "pool1", "pool1")
        + layer("Pooling", "pooling_param { kernel_size: 2 }", "pool1", "pool2", "pool2")
        + layer("Eltwise", "eltwise_param { coeff: 2 coeff: 0.3 }", "pool2 pool2", "sum", "sum")
        + layer("InnerProduct", "inner_product_param { num_output: 9 }", "sum", "fc", "fc")
        + layer("Softmax", "", "fc", "prob", "prob"))

    def bits(threads: int, **environment: str) -> str:
        return subprocess.run([sys.executable, "-c", BITS, str(threads), path], env={**os.environ, **environment},
                              check=True, capture_output=True, text=True).stdout

    assert len({bits(1), bits(3), *(bits(2, ATEN_CPU_CAPABILITY=kept_to) for kept_to in ("default", "avx2"))}) == 1
