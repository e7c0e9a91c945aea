"""Engines give what the network gives, and are refused where they do not."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from engine_networks import EVERYTHING, everything

from rmpe_legacy import load_net
from rmpe_legacy.caffe.net import Net
from rmpe_legacy.engines import ENGINES, EXACT, PASSES, onnx_engines, passes, torch_engines
from rmpe_legacy.engines.base import Engine, Job
from rmpe_legacy.engines.kernels import Affine, Conv, PackedConv, WinogradConv
from rmpe_legacy.engines.passes import PLAN_PASSES, optimize
from rmpe_legacy.engines.plan import LayerCall, Program, split
from rmpe_legacy.engines.proof import Proof, prove
from rmpe_legacy.errors import LayerError, NetError, RmpeError
from rmpe_legacy.export.graph import make_graph
from rmpe_legacy.ops import winograd

HAS_OPENVINO = find_spec("openvino") is not None
FAST = [pytest.param(name, marks=[pytest.mark.skipif(not HAS_OPENVINO, reason="OpenVINO is not installed")]
                     if name == "openvino" else []) for name in ("torch", "onnxruntime", "openvino")]


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Net:
    return everything(tmp_path_factory.mktemp("net"))


def images(batch: int = 2, seed: int = 3) -> torch.Tensor:
    return torch.randn(batch, 3, 17, 13, generator=torch.Generator().manual_seed(seed))


def assert_same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert list(found) == list(expected)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=2e-6 * float(value.abs().max()))


# --- the same results --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", FAST)
def test_an_engine_gives_the_networks_outputs_in_all_call_forms(engine: str, net: Net):
    compiled = net.compiled(engine)
    x = images()
    with torch.no_grad():
        expected = net(x)
    for found in (compiled(x), compiled({"data": x}), compiled(data=x)):
        assert_same(found, expected)
    assert compiled.engine == engine
    assert compiled.inputs == net.inputs
    assert compiled.outputs == net.outputs
    assert compiled.proof.worst < 1e-5
    assert set(compiled.proof.verdicts) == {"random", "picture-like"}


@pytest.mark.parametrize("engine", FAST)
def test_other_batches_and_other_sizes(engine: str, tmp_path: Path):
    text = EVERYTHING[: EVERYTHING.index('layer { name: "fc"')]  # whose weights are for one size
    net = everything(tmp_path, text)
    compiled = net.compiled(engine)
    for shape in ((5, 3, 17, 13), (1, 3, 17, 13), (2, 3, 21, 33)):
        x = torch.randn(shape)
        with torch.no_grad():
            assert_same(compiled(x), net(x))


def test_a_size_that_the_weights_do_not_fit_is_refused_as_by_the_network(net: Net):
    compiled = net.compiled("torch")
    with pytest.raises(LayerError, match=r"fc \(InnerProduct\): its parameter weight fits only one input size"):
        compiled(torch.zeros(1, 3, 30, 30))


@pytest.mark.parametrize("engine", FAST)
def test_further_blobs_can_be_asked_for(engine: str, net: Net):
    compiled = net.compiled(engine, blobs=["pool1"])
    net.keep_blobs = True
    try:
        with torch.no_grad():
            net(images())
        torch.testing.assert_close(compiled(images())["pool1"], net.blobs["pool1"], rtol=0, atol=1e-5)
    finally:
        net.keep_blobs = False


def test_a_plan_in_two_parts_gives_the_same(net: Net):
    """Wherever it is cut."""
    with torch.no_grad():
        plan = net.compiled("torch", verify=False).prepared.engine.program.plan
        expected = Program(plan)(images())
        for at in range(len(plan.calls) + 1):
            before, rest = split(plan, at)
            assert len(before.calls) == at
            passed = Program(before)(images())
            found = Program(rest)(images(), *passed)
            assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch, about parts of itself
def test_inductor_leaves_out_what_chooses_rows_and_is_quiet(tmp_path: Path, capfd: pytest.CaptureFixture):
    text = """layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 2 dim: 2 } } }
        layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
          convolution_param { num_output: 24 kernel_size: 1 } }
        layer { name: "loc" type: "Flatten" bottom: "conv" top: "loc" }
        layer { name: "conf" type: "Slice" bottom: "loc" top: "conf" top: "others" slice_param { slice_point: 48 } }
        layer { name: "small" type: "PriorBox" bottom: "conv" bottom: "data" top: "small"
          prior_box_param { min_size: 1 aspect_ratio: 2 flip: true clip: true } }
        layer { name: "large" type: "PriorBox" bottom: "conv" bottom: "data" top: "large"
          prior_box_param { min_size: 2 aspect_ratio: 3 flip: true clip: true } }
        layer { name: "prior" type: "Concat" bottom: "small" bottom: "large" top: "prior" concat_param { axis: 2 } }
        layer { name: "out" type: "DetectionOutput" bottom: "loc" bottom: "conf" bottom: "prior" top: "out"
          detection_output_param { num_classes: 2 nms_param { nms_threshold: 0.5 } keep_top_k: 5 } }
        """
    net = everything(tmp_path, text)
    compiled = net.compiled("inductor", verify=False)
    data = torch.rand(1, 3, 2, 2)
    with torch.no_grad():
        found, expected = compiled(data), net(data)
    assert [call.name for call in compiled.prepared.engine.rest.plan.calls] == ["out"]
    assert_same(found, expected)
    printed = capfd.readouterr()
    assert (printed.out, printed.err) == ("", "")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch, about parts of itself
def test_inductor_tells_networks_of_the_same_layers_apart(tmp_path: Path):
    text = EVERYTHING[: EVERYTHING.index('layer { name: "bn1"')]
    nets = [everything(tmp_path, text) for _ in range(2)]
    with torch.no_grad():
        for value in nets[1].parameters():
            value.mul_(2)
    compiled = [each.compiled("inductor", verify=False) for each in nets]
    for _ in range(2):
        for each, fast in zip(nets, compiled, strict=True):
            with torch.no_grad():
                assert_same(fast(images()), each(images()))


def test_torch_compile_takes_any_number_of_networks_quietly():
    from torch._dynamo import config
    from torch.compiler import config as compiler_config

    log = logging.getLogger("torch._dynamo")
    before = (config.recompile_limit, config.accumulated_recompile_limit, log.level)
    with torch_engines._compiling():
        assert min(config.recompile_limit, config.accumulated_recompile_limit) > 100_000
        assert not logging.getLogger("torch._dynamo.convert_frame").isEnabledFor(logging.WARNING)
        assert torch.backends.cpu.get_cpu_capability() in compiler_config.cache_key_tag, "or a cached result is wrong"
    assert (config.recompile_limit, config.accumulated_recompile_limit, log.level) == before


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch, about parts of itself
def test_inductor_gives_the_networks_outputs(tmp_path: Path):
    """A network of three layers: compiling takes a minute otherwise."""
    text = EVERYTHING[: EVERYTHING.index('layer { name: "relu1"')]
    net = everything(tmp_path, text)
    compiled = net.compiled("inductor")
    with torch.no_grad():
        assert_same(compiled(images()), net(images()))


def test_the_network_itself_does_not_change(net: Net):
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with torch.no_grad():
        expected = net(images())
    net.compiled("torch")(images())
    with torch.no_grad():
        found = net(images())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_statistics_that_a_layer_collects_are_not_touched_by_the_comparison(tmp_path: Path):
    text = EVERYTHING[: EVERYTHING.index('layer { name: "scale1"')].replace(
        'bottom: "conv1" top: "conv1" }', 'bottom: "conv1" top: "conv1" batch_norm_param { use_global_stats: false } }')
    net = everything(tmp_path, text)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    net.compiled("torch")
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


@pytest.mark.parametrize("seconds", [{2: 1e-3, 1: 1e-4}, {2: 1e-4, 1: 1e-3}, {2: 1e-2, 1: 1e-4}],
                         ids=["one is faster", "all are faster", "not a small network"])
def test_a_small_network_runs_in_one_thread_where_that_is_faster(seconds: dict[int, float], net: Net,
                                                                 monkeypatch: pytest.MonkeyPatch):
    """Measured once for inputs of about a size. `seconds`: number of threads -> how long a run seems to take."""
    ran: list[int] = []

    def opened(model: bytes, device: torch.device, threads: int) -> onnx_engines.Run:
        right = onnx_engines._open_onnxruntime(model, device, threads)

        def run(arrays: list[Any]) -> Any:
            ran.append(threads)
            return right(arrays)

        return run

    def seconds_of(run: Any) -> float:
        run()
        return seconds[ran[-1]]

    def profile(model: bytes, device: torch.device, threads: int, *_: Any) -> list[tuple[str, float]]:
        return [("conv1", float(threads))]

    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.setattr(onnx_engines, "seconds_of", seconds_of)
    monkeypatch.setattr(onnx_engines, "time_in_turns",
                        lambda runs, rounds: {name: seconds_of(run) for name, run in runs.items()})
    engine = onnx_engines.OnnxEngine("onnxruntime", Job(net, net.outputs), opened, profile)
    small = seconds[2] < onnx_engines.SMALL_SECONDS
    best = 1 if small and seconds[1] < seconds[2] else 2
    for batch, is_new in ((2, True), (2, False), (5, True), (4, False), (2, False)):
        ran.clear()
        with torch.no_grad():
            assert_same(engine.run({"data": images(batch)}), net(images(batch)))
        assert set(ran) == ({1, 2} if is_new and small else {best})
        assert ran[-1] == best
        assert is_new == (len(ran) > 1)
    assert engine.layer_times({"data": images()}, 1) == {"conv1": best}


@pytest.mark.parametrize("engine", FAST)
def test_inputs_that_require_gradients_are_taken_and_results_have_none(engine: str, net: Net):
    x = images().requires_grad_()
    found = net.compiled(engine)(x)
    with torch.no_grad():
        assert_same(found, net(x))
    assert not any(value.requires_grad for value in found.values())


@pytest.mark.parametrize("engine", [*FAST, EXACT])
def test_a_call_leaves_the_results_of_the_one_before(engine: str, net: Net):
    compiled = net.compiled(engine)
    first = compiled(images())
    before = {name: value.clone() for name, value in first.items()}
    compiled(images(seed=4))
    assert all(torch.equal(value, before[name]) for name, value in first.items())


@pytest.mark.parametrize("engine", ["exact", "torch", "onnxruntime"])
def test_inputs_of_different_batches_are_refused_as_by_the_network(engine: str, tmp_path: Path):
    """Most engines would add the values of a single image to all others."""
    text = "".join(f'layer {{ name: "{name}" type: "Input" top: "{name}" input_param {{ shape {{ dim: 1 dim: 3 }} }} }}'
                   for name in "ab")
    net = everything(tmp_path, text + """
layer { name: "ip" type: "InnerProduct" bottom: "a" top: "ip" inner_product_param { num_output: 3 } }
layer { name: "sum" type: "Eltwise" bottom: "ip" bottom: "b" top: "sum" }""")
    compiled = net.compiled(engine)
    for a, b in ((2, 1), (1, 3)):
        with pytest.raises(LayerError, match=f"differ in shape: {a} x 3, {b} x 3"):
            compiled(a=torch.zeros(a, 3), b=torch.zeros(b, 3))
    assert compiled(a=torch.zeros(3, 3), b=torch.zeros(3, 3))["sum"].shape == (3, 3)


@pytest.mark.parametrize("engine", [*FAST, EXACT])
def test_a_batch_without_images_gives_tops_without_values(engine: str, net: Net):
    found = net.compiled(engine)(images(0))
    with torch.no_grad():
        expected = net(images(0))
    assert {name: value.shape for name, value in found.items()} == {n: v.shape for n, v in expected.items()}


@pytest.mark.parametrize("engine", [*FAST, EXACT])
def test_several_threads_may_call_one_engine(engine: str, net: Net):
    compiled = net.compiled(engine)
    inputs = [images(batch, seed=batch) for batch in (1, 2, 3, 4)]
    with torch.no_grad():
        expected = [net(x) for x in inputs]

    def call(i: int) -> None:
        for _ in range(20):
            found = compiled(inputs[i])
            for name, value in expected[i].items():
                torch.testing.assert_close(found[name], value, rtol=0, atol=1e-4)

    with ThreadPoolExecutor(len(inputs)) as pool:
        list(pool.map(call, range(len(inputs))))


def test_exact_in_other_sizes_lets_in_place_layers_change_what_shares_their_memory(tmp_path: Path):
    """A ReLU in place on one half of a Split changes the other half, which is read after it."""
    text = """layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 2 dim: 2 } } }
        layer { name: "split" type: "Split" bottom: "data" top: "a" top: "b" }
        layer { name: "relu" type: "ReLU" bottom: "b" top: "b" }
        layer { name: "power" type: "Power" bottom: "a" top: "doubled" power_param { scale: 2 } }
        layer { name: "tanh" type: "TanH" bottom: "b" top: "tanh" }
        """
    net = everything(tmp_path, text)
    compiled = net.compiled(EXACT)
    data = torch.randn(1, 3, 4, 5)
    found = compiled(data)
    assert_same(found, {"doubled": 2 * data.relu(), "tanh": data.relu().tanh()})
    assert any(step.free for step in compiled.prepared.engine.net.steps), "blobs that nobody reads are released"


# --- the proof ---------------------------------------------------------------------------------------------------


def wrong_pass(plan: Any) -> Any:
    """Changes a bias of the convolution "grouped" by a thousandth of its range."""
    def wrong(call: Any) -> Any:
        if call.name != "grouped":
            return call
        bias = call.kernel.bias.detach() + 0.01
        return replace(call, kernel=call.kernel.fused(bias=torch.nn.Parameter(bias, requires_grad=False)))

    return plan.with_calls(map(wrong, plan.calls))


def test_a_wrong_pass_is_refused_and_the_first_blob_named(net: Net, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(PLAN_PASSES, "kernels", lambda plan, right=PLAN_PASSES["kernels"]: wrong_pass(right(plan)))
    with pytest.raises(NetError, match=r"engine 'torch' is rejected: on random inputs it is not the same: .* the first "
                                       r"is sum, computed by sum \(Eltwise\), relu3 \(ReLU\)"):
        net.compiled("torch")
    net.compiled("torch", verify=False)


@pytest.mark.parametrize("engine", FAST[1:])
def test_a_wrong_onnx_is_refused_and_the_first_blob_named(engine: str, net: Net, monkeypatch: pytest.MonkeyPatch):
    def wrong(*args: Any, right: Any = onnx_engines.to_onnx, **options: Any) -> Any:
        from onnx import numpy_helper

        model, graph = right(*args, **options)
        weight = next(each for each in model.graph.initializer if each.name == "last.weight")
        weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * 1.001, weight.name))
        return model, graph

    monkeypatch.setattr(onnx_engines, "to_onnx", wrong)
    with pytest.raises(NetError, match=rf"engine '{engine}' is rejected: .* the first is last, computed by last"):
        net.compiled(engine)


# --- the passes --------------------------------------------------------------------------------------------------


OVERFLOW = """
layer {{ name: "c{i}" type: "Convolution" bottom: "{bottom}" top: "c{i}" convolution_param {{ num_output: 4
  kernel_size: 3 pad: 1 bias_term: false weight_filler {{ type: "msra" }} }} }}
layer {{ name: "b{i}" type: "BatchNorm" bottom: "c{i}" top: "b{i}" batch_norm_param {{ use_global_stats: true }} }}"""
"""With a variance of 0, such a pair multiplies by 316."""


@pytest.mark.parametrize("engine", FAST)
@pytest.mark.parametrize("wrong", [False, True])
def test_a_network_that_overflows_is_compared_all_the_same(engine: str, wrong: bool, tmp_path: Path,
                                                           monkeypatch: pytest.MonkeyPatch):
    def changed(job: Job) -> Engine:
        layer = next(step.layer for step in job.net.steps if step.layer.spec.name == "c38")
        layer.weight = torch.nn.Parameter(layer.weight * 1.001)
        return make(job)

    layers = (OVERFLOW.format(i=i, bottom=f"b{i - 1}" if i else "data") for i in range(40))
    (tmp_path / "net.prototxt").write_text(
        'input: "data" input_shape { dim: 1 dim: 3 dim: 5 dim: 5 }' + "".join(layers))
    net, make = load_net(tmp_path / "net.prototxt"), ENGINES[engine]
    assert not torch.isfinite(net(torch.ones(1, 3, 5, 5))["b39"]).all()
    if wrong:
        monkeypatch.setitem(ENGINES._entries, engine, changed)
        with pytest.raises(NetError, match=r"1 of 40 blobs .* the first is b38"):
            net.compiled(engine)
    else:
        assert "the same: 40 blobs" in str(net.compiled(engine).proof)


TIED = """
input: "data" input_shape { dim: 1 dim: 3 dim: 1 dim: 2 }
layer { name: "priors" type: "PriorBox" bottom: "data" bottom: "data" top: "priors" prior_box_param { min_size: 2
  clip: false } }
layer { name: "loc" type: "InnerProduct" bottom: "data" top: "loc" inner_product_param { num_output: 8 } }
layer { name: "conf" type: "InnerProduct" bottom: "data" top: "conf" inner_product_param { num_output: 4
  bias_filler { type: "constant" value: 1 } } }
layer { name: "found" type: "DetectionOutput" bottom: "loc" bottom: "conf" bottom: "priors" top: "found"
  detection_output_param { num_classes: 2 share_location: true background_label_id: 0 nms_param { nms_threshold: 0.1 }
  code_type: CENTER_SIZE } }
"""
"""Two boxes that overlap and have equal scores: the first is kept, until the last bit of a score changes."""

ON_THE_EDGE = """
input: "data" input_shape { dim: 1 dim: 3 dim: 1 dim: 2 }
layer { name: "conf" type: "InnerProduct" bottom: "data" top: "conf" inner_product_param { num_output: 4
  bias_filler { type: "constant" value: 1 } } }
layer { name: "above" type: "Threshold" bottom: "conf" top: "above" threshold_param { threshold: 1 } }
"""
"""Values that are not above a threshold, until their last bit changes."""


@pytest.mark.parametrize("engine", FAST)
@pytest.mark.parametrize(("change", "accepted"), [(2.0**-23, True), (0.01, False)])
@pytest.mark.parametrize("prototxt", [TIED, ON_THE_EDGE], ids=["choice of rows", "comparison"])
def test_behind_a_comparison_a_last_bit_is_no_difference(prototxt: str, engine: str, change: float, accepted: bool,
                                                         tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def changed(job: Job) -> Engine:
        layer = next(step.layer for step in job.net.steps if step.layer.spec.name == "conf")
        layer.bias = torch.nn.Parameter(layer.bias + torch.tensor([0, 0, 0, change]))
        return make(job)

    (tmp_path / "net.prototxt").write_text(prototxt)
    net, make = load_net(tmp_path / "net.prototxt"), ENGINES[engine]
    monkeypatch.setitem(ENGINES._entries, engine, changed)
    if accepted:
        proof = str(net.compiled(engine).proof)
        assert "; layers that read" in proof
    else:
        with pytest.raises(NetError, match=rf"engine '{engine}' is rejected: .* the first is conf"):
            net.compiled(engine)


@pytest.mark.parametrize("name", PASSES)
def test_each_pass_can_be_left_out(name: str, net: Net):
    compiled = net.compiled("torch", without=[name])
    with torch.no_grad():
        assert_same(compiled(images()), net(images()))


def test_all_passes_can_be_left_out_and_nothing_then_changes(net: Net):
    plan = optimize(make_graph(net), without=PASSES)
    assert all(isinstance(call.kernel, LayerCall) for call in plan.calls)
    assert len(plan.calls) == sum(not step.layer.spec.is_inserted for step in net.steps) - 1  # the Input


def test_what_the_passes_make_of_the_network(net: Net):
    calls = {call.name: call.kernel for call in optimize(make_graph(net), without=["pack"]).calls}
    assert not {"bn1", "scale1", "relu1", "bn2", "relu2", "shift3", "relu3", "sum", "drop", "scale4", "bn5",
                "scale5"} & {name for name, kernel in calls.items() if isinstance(kernel, LayerCall)}
    assert calls["conv1"].relu
    assert isinstance(calls["affine2"], Affine)
    assert calls["affine2"].relu
    assert isinstance(calls["grouped"], Conv)
    assert (calls["grouped"].adds, calls["grouped"].relu) == (True, True)
    assert type(calls["up"]).__name__ == "Nearest"
    assert type(calls["pool1"]).__name__ == "Pool"


def count_packed(net: Net) -> int:
    return sum(isinstance(call.kernel, PackedConv) for call in optimize(make_graph(net)).calls)


def test_packed_convolutions_compute_the_same(net: Net, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(passes, "LEAST_PRODUCTS", 0)
    assert count_packed(net) == 3
    with torch.no_grad():
        assert_same(net.compiled("torch")(images()), net(images()))


def test_small_convolutions_are_not_packed(net: Net, monkeypatch: pytest.MonkeyPatch):
    assert count_packed(net) == 0
    monkeypatch.setattr(passes, "LEAST_PRODUCTS", 6 * 17 * 13 * 3 * 9)  # what conv1 has
    assert count_packed(net) == 1
    monkeypatch.setattr(passes, "LEAST_PRODUCTS", 6 * 17 * 13 * 3 * 9 + 1)
    assert count_packed(net) == 0


WINOGRAD = """
name: "winograd" input: "data" input_shape {{ dim: 2 dim: {channels} dim: {h} dim: {w} }}
layer {{ name: "conv" type: "Convolution" bottom: "data" top: "conv" convolution_param {{ num_output: {channels}
  {options} weight_filler {{ type: "msra" }} bias_filler {{ type: "gaussian" }} }} }}
layer {{ name: "sum" type: "Eltwise" bottom: "conv" bottom: "data" top: "sum" }}
layer {{ name: "relu" type: "ReLU" bottom: "sum" top: "sum" }}"""


def winograd_net(folder: Path, channels: int = 24, size: tuple[int, int] = (18, 15),
                 options: str = "kernel_size: 3 pad: 1") -> Net:
    path = folder / "net.prototxt"
    path.write_text(WINOGRAD.format(channels=channels, h=size[0], w=size[1], options=options))
    return load_net(path)


@pytest.mark.skipif(not winograd.IS_FAST, reason="only with vector loops is it faster")
def test_a_network_that_magnifies_rounding_runs_without_winograds_convolution(tmp_path: Path,
                                                                              monkeypatch: pytest.MonkeyPatch):
    def kernels(engine: Engine) -> list[type]:
        return [type(call.kernel) for call in engine.program.plan.calls]

    def rejects_winograd(net: Net, engine: Engine, shapes: Any) -> Proof:
        if WinogradConv in kernels(engine):
            raise NetError("is rejected")
        return prove(net, engine, shapes)

    net = winograd_net(tmp_path)
    assert WinogradConv in kernels(net.compiled("torch", without=["small"]).prepared.engine)
    monkeypatch.setattr("rmpe_legacy.engines.compiled.prove", rejects_winograd)
    compiled = net.compiled("torch", without=["small"])
    assert WinogradConv not in kernels(compiled.prepared.engine)
    assert compiled.proof.worst < 1e-5


@pytest.mark.skipif(not winograd.IS_FAST, reason="only with vector loops is it faster")
def test_winograd_convolutions_compute_the_same_in_every_size_and_batch(tmp_path: Path):
    net = winograd_net(tmp_path)
    compiled = net.compiled("torch", without=["small"])
    kernel, = (call.kernel for call in compiled.prepared.engine.program.plan.calls)
    assert isinstance(kernel, WinogradConv)
    assert kernel.relu
    for shape in ((2, 24, 18, 15), (5, 24, 18, 15), (1, 24, 4, 31), (1, 24, 1, 1)):
        x = torch.randn(shape)
        with torch.no_grad():
            assert_same(compiled(x), net(x))
    assert compiled(torch.zeros(0, 24, 18, 15))["sum"].shape == (0, 24, 18, 15)


@pytest.mark.skipif(not winograd.IS_FAST, reason="only with vector loops is it faster")
@pytest.mark.parametrize("without", [[], ["pack"]])
def test_small_images_are_computed_directly_until_there_are_enough(without: list[str], tmp_path: Path,
                                                                   monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(passes, "LEAST_PRODUCTS", 0)
    net = winograd_net(tmp_path, channels=72, size=(12, 11))
    compiled = net.compiled("torch", without=["small", *without])
    kernel, = (call.kernel for call in compiled.prepared.engine.program.plan.calls)
    assert isinstance(kernel, WinogradConv)
    assert kernel.least == 2
    assert isinstance(kernel.direct, Conv if without else PackedConv)
    for batch in (1, 2, 3):
        x = torch.randn(batch, 72, 12, 11)
        with torch.no_grad():
            assert_same(compiled(x), net(x))


@pytest.mark.skipif(not winograd.IS_FAST, reason="only with vector loops is it faster")
@pytest.mark.parametrize(("changes", "chosen"), [
    ({}, True), ({"channels": 7}, False), ({"channels": 8}, True), ({"channels": 64}, True),
    ({"channels": 65, "size": (4, 4)}, True), ({"channels": 65, "size": (4, 3)}, False),
    ({"options": "kernel_size: 3 pad: 1 group: 2"}, False),
    ({"options": "kernel_size: 3 pad: 2 dilation: 2"}, True), ({"options": "kernel_size: 3 pad: 6 dilation: 6"}, False),
    ({"size": (2, 2)}, False), ({"size": (3, 3)}, True),
    ({"options": "kernel_size: 1"}, False), ({"options": "kernel_size: 5 pad: 2"}, False)])
def test_which_convolutions_become_winograds(changes: dict[str, Any], chosen: bool, tmp_path: Path):
    net = winograd_net(tmp_path, **{"size": (13, 13)} | changes)
    kernels = [call.kernel for call in optimize(make_graph(net), without=["small"]).calls]
    assert any(isinstance(kernel, WinogradConv) for kernel in kernels) == chosen


def test_an_unknown_pass_or_engine_is_named(net: Net):
    with pytest.raises(RmpeError, match=r"no pass 'folds'.*'fold'.*the passes are copies, fold"):
        net.compiled("torch", without=["folds"])
    with pytest.raises(RmpeError, match=r"no engine 'torhc'.*'torch'.*the engines are onnxruntime, openvino"):
        net.compiled("torhc")
    assert EXACT in ENGINES


# --- what an engine cannot run -----------------------------------------------------------------------------------


def test_a_missing_library_is_named(net: Net, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(__import__("sys").modules, "openvino", None)
    with pytest.raises(RmpeError, match=r"engine 'openvino' needs openvino; pip install 'rmpe-legacy\[openvino\]'"):
        net.compiled("openvino")


def test_a_layer_that_gives_data_of_its_own_is_refused(tmp_path: Path):
    path = tmp_path / "net.prototxt"
    path.write_text("""layer { name: "noise" type: "DummyData" top: "data"
        dummy_data_param { shape { dim: 1 dim: 3 dim: 4 dim: 5 } data_filler { type: "gaussian" } } }
        layer { name: "relu" type: "ReLU" bottom: "data" top: "relu" }""")
    with pytest.raises(LayerError, match=r"noise \(DummyData\): produces its own data"):
        load_net(path).compiled("torch")({"data": torch.zeros(1, 3, 4, 5)})


def test_a_network_for_training_is_refused(tmp_path: Path):
    path = tmp_path / "net.prototxt"
    path.write_text(EVERYTHING)
    with pytest.raises(LayerError, match="is in phase TRAIN"):
        load_net(path, phase="TRAIN").compiled("torch")


@pytest.mark.parametrize("engine", FAST)
def test_double_precision(engine: str, tmp_path: Path):
    net = everything(tmp_path).double()
    if engine != "torch":
        with pytest.raises(NetError, match=f"engine '{engine}' needs float32 parameters"):
            net.compiled(engine)
        return
    compiled = net.compiled(engine, verify=False)
    with torch.no_grad():
        for name, value in net(images()).items():
            torch.testing.assert_close(compiled(images())[name], value, rtol=0, atol=1e-12)
