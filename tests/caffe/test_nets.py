"""Whole networks on an image, blob by blob, against what the real Caffe gave (RMPE fork, CPU), and MTCNN's files.

A SpatialTransformer (STN) magnifies the rounding of its theta: it moves the samples of an image, which has edges. How
the sums of theta are rounded depends on the processor, so the distance between two float results behind an STN says
little about either. There the measure is the same network in double:

- Caffe's float result must be within LIMIT of it, as if there were no STN. Neither depends on the processor that runs
  the test; at most 3.5e-5 was measured.
- Our float result may be TIMES as far from it as Caffe's, or TIMES AT_LEAST. At most 3.0 times was measured.
- With Caffe's theta fed to the STN nothing is left to magnify: every blob of our float result is within LIMIT again.

The joints' places are compared in double and with Caffe's theta: the second best place is 9e-5 behind the best.
"""

import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch
from difference import Difference, beyond
from shared import shared
from whole_networks import WholeNetwork, fed_to_transformers, transformers

from rmpe_legacy import load_net
from rmpe_legacy.caffe.net import Net

LIMIT = 1e-4  # of a blob's largest value; sums of up to 9216 products come in another order
TIMES, AT_LEAST = 4, 1e-5
MODES = {  # what the SDTN does -> prefixes of its arrays in blobs.npz
    "published-identity": ("", "fma_"),  # fma: with the fused multiply-adds of the GPU build
    "published-ignored": ("ignored_",),
}
PREFIXES = ("fma_", "ignored_")
Blobs = dict[str, np.ndarray]


def load(network: WholeNetwork, mode: str = "published-identity") -> Net:
    return load_net(*network.files, keep_blobs=True, de_transform=mode)


def run(net: Net, data: np.ndarray) -> Blobs:
    """Every blob of one forward, in the type of the parameters."""
    with torch.no_grad():
        net(data=torch.from_numpy(data))
    return apart({name: blob.numpy() for name, blob in net.blobs.items()})


def apart(blobs: Blobs) -> Blobs:
    """With the joints' places and their scores as two blobs, for the scores are small beside the places."""
    if "prediction_heatmap" not in blobs:
        return blobs
    joints = blobs["prediction_heatmap"].reshape(16, 3)
    return {**blobs, "places": joints[:, :2], "scores": joints[:, 2]}


def behind_transformers(net: Net) -> set[str]:
    """The blobs that depend on the top of a SpatialTransformer."""
    behind: set[str] = set()
    for step in net.steps:
        if step.layer.spec.type == "SpatialTransformer" or behind & set(step.bottom):
            behind |= set(step.top)
    return behind | {"places", "scores"} if "prediction_heatmap" in behind else behind


def stored(network: WholeNetwork, prefix: str = "") -> Blobs:
    """What Caffe gave, of the blobs that are stored whole."""
    names = [name for name in network.arrays if (name.startswith(prefix) if prefix else not name.startswith(PREFIXES))]
    return apart({name.removeprefix(prefix): network.arrays[name] for name in names})


def compare(network: WholeNetwork, caffe: Blobs, ours: Blobs) -> list[Difference]:
    return [Difference(name, want, ours[name], network.folder / "blobs.npz.xz") for name, want in caffe.items()]


def compare_stats(network: WholeNetwork, ours: Blobs) -> list[Difference]:
    """Of each of these blobs of ours: 16 values, the mean, the deviation and the extremes."""
    differences = []
    for name, want in network.stats.items():
        if name in ours:
            blob = ours[name].astype(np.float64)
            samples = blob.ravel()[:: want["samples_stride"]][: len(want["samples"])]
            moments = {what: getattr(blob, what)() for what in ("mean", "std", "min", "max")}
            largest = max(abs(want["min"]), abs(want["max"]), np.finfo(np.float32).tiny)
            differences += [Difference(f"{what} of {name}", np.array(want[what]), np.array(got),
                                       network.folder / "stats.json", largest=largest)
                            for what, got in {"samples": samples, **moments}.items()]
    return differences


def shapes_are_caffes(network: WholeNetwork, ours: Blobs) -> bool:
    wanted = {name: tuple(want["shape"]) for name, want in network.stats.items()}
    return wanted == {name: ours[name].shape for name in wanted}


def beyond_noise(caffe: Blobs, single: Blobs, double: Blobs) -> list[str]:
    """A sentence about each blob whose float result is further from the double one than Caffe's noise allows."""
    sentences = []
    for name, want in caffe.items():
        noise = Difference(name, want, double[name]).error
        ours = Difference(name, double[name], single[name], original="our network in double")
        sentences += beyond([ours], TIMES * max(noise, AT_LEAST))
    return sentences


def mistakes(network: WholeNetwork, mode: str, change: Callable[[Net], None] = lambda net: None) -> list[str]:
    """A sentence about each array that is wrong of a network with STNs. change: done to the network first."""
    net = load(network, mode)
    change(net)
    behind = behind_transformers(net)
    single = run(net, network.arrays["data"])
    double = run(net.double(), network.arrays["data"])
    measured = {name: double[name] if name in behind else single[name] for name in single}
    found = [] if mode == "published-ignored" else beyond(compare_stats(network, measured), LIMIT)
    for prefix in MODES[mode]:
        caffe = stored(network, prefix)
        found += beyond(compare(network, caffe, measured), LIMIT)
        found += beyond(compare(network, {"places": caffe["places"]}, double), 0)
        found += beyond_noise({name: blob for name, blob in caffe.items() if name in behind}, single, double)
    return found


@pytest.fixture(scope="module")
def ssd(whole_network) -> WholeNetwork:
    return whole_network("ssd")


@pytest.fixture(scope="module")
def ssd_blobs(ssd: WholeNetwork) -> Blobs:
    net = load(ssd)
    assert not transformers(net)
    return run(net, ssd.arrays["data"])


@pytest.fixture(scope="module")
def pose(whole_network) -> WholeNetwork:
    return whole_network("pose")


class TestDetector:
    def test_every_blob_has_caffes_shape_samples_and_moments(self, ssd: WholeNetwork, ssd_blobs: Blobs):
        assert shapes_are_caffes(ssd, ssd_blobs)
        wrong = beyond(compare_stats(ssd, ssd_blobs), LIMIT)
        assert not wrong, "\n".join(wrong)

    def test_stored_blobs_are_what_caffe_gave(self, ssd: WholeNetwork, ssd_blobs: Blobs):
        assert len(ssd.arrays) >= 10
        wrong = beyond(compare(ssd, ssd.arrays, ssd_blobs), LIMIT)
        assert not wrong, "\n".join(wrong)

    def test_priors_are_caffes_to_the_bit(self, ssd: WholeNetwork, ssd_blobs: Blobs):
        wrong = beyond(compare(ssd, {"mbox_priorbox": ssd.arrays["mbox_priorbox"]}, ssd_blobs), 0)
        assert not wrong, wrong[0]

    def test_detects_the_same_boxes_in_the_same_order(self, ssd: WholeNetwork, ssd_blobs: Blobs):
        want = ssd.arrays["detection_out"]
        assert want.shape == (1, 1, 69, 7)
        wrong = beyond(compare(ssd, {"detection_out": want}, ssd_blobs), LIMIT, relative=False)
        assert not wrong, wrong[0]
        assert np.array_equal(ssd_blobs["detection_out"][..., :2], want[..., :2])  # image, label


class TestPose:
    @pytest.mark.parametrize("mode", MODES)
    def test_every_blob_is_what_caffe_gave(self, pose: WholeNetwork, mode: str):
        wrong = mistakes(pose, mode)
        assert not wrong, "\n".join(wrong)

    def test_with_caffes_theta_the_plain_limit_holds(self, pose: WholeNetwork):
        net = load(pose)
        with fed_to_transformers(net, pose.arrays["theta"]):
            ours = run(net, pose.arrays["data"])
        assert shapes_are_caffes(pose, ours)
        wrong = [*beyond(compare_stats(pose, ours), LIMIT),
                 *(sentence for prefix in MODES["published-identity"]
                   for sentence in beyond(compare(pose, stored(pose, prefix), ours), LIMIT)),
                 *beyond(compare(pose, {"img": pose.arrays["fma_img"], "places": stored(pose)["places"]}, ours), 0)]
        assert not wrong, "\n".join(wrong)


def test_what_lies_behind_a_transformer_is_read_off_the_graph(pose: WholeNetwork):
    net = load(pose)
    behind = behind_transformers(net)
    assert len(transformers(net)) == 2
    assert {"img", "pool", "out1", "out2", "heatmap_back", "prediction_heatmap", "scores"} <= behind
    assert not {name for name in net.blobs if name.startswith("loc_")} & behind
    assert not {"data", "theta"} & behind


def change_largest(blob: str, index: int) -> Callable[[Net], None]:
    """One weight of a layer, its largest, grows by 1 %."""
    def change(net: Net) -> None:
        values = net.params[blob][index].data.view(-1)
        values[values.abs().argmax()] *= 1.01

    return change


def shift_theta(net: Net) -> None:
    net.params["theta"][1].data[2] += 1e-3


@pytest.mark.parametrize(("change", "blob"), [
    pytest.param(change_largest("loc_conv1", 0), "theta", id="weight-before-the-transformer"),
    pytest.param(change_largest("cnv1", 0), "pool", id="weight-behind-the-transformer"),
    pytest.param(change_largest("out1", 0), "out1", id="weight-of-the-heat-maps"),
    pytest.param(shift_theta, "img", id="theta"),
])
def test_a_wrong_network_is_found_out(pose: WholeNetwork, change: Callable[[Net], None], blob: str):
    wrong = mistakes(pose, "published-identity", change)
    assert any(sentence.startswith(f"{blob}[") for sentence in wrong), "\n".join(wrong)


def test_float_results_that_are_too_noisy_are_found_out():
    double = {"x": np.array([1, 0.5, 0.25])}
    caffe, ours = ({"x": double["x"] + [0, error, 0]} for error in (2e-5, 7e-5))
    assert beyond_noise(caffe, ours, double) == []
    sentence, = beyond_noise(double, ours, double)
    assert sentence == "x[1]: our network in double 0.5, ours 0.50007, error 7e-05 of the largest value, limit 4e-05"


@pytest.mark.parametrize("name", ["det1", "det2"])
def test_mtcnn(name: str):
    source = shared("expected", f"{name}_expected.npz")
    arrays = np.load(source)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # other people's trained files load without a warning
        net = load_net(shared("mtcnn", f"{name}.prototxt"), shared("mtcnn", f"{name}.caffemodel"))
    with torch.no_grad():
        out = net(data=torch.from_numpy(arrays["in_data"]))
    differences = [Difference(blob, arrays[f"out_{blob}"], value.numpy(), source) for blob, value in out.items()]
    assert not (wrong := beyond(differences, 2e-6)), "\n".join(wrong)
