"""Detectors whose regions are picked by comparing values: as ONNX, as PyTorch, and compared piece by piece."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from exported import by_onnx, by_python

from rmpe_legacy import load_net
from rmpe_legacy.caffe.net import Net
from rmpe_legacy.compare.verify import Verdict, verify
from rmpe_legacy.errors import LayerError
from rmpe_legacy.export.onnx import to_onnx
from rmpe_legacy.formats.base import NetRunner

RCNN = """
layer { name: "data" type: "Input" top: "data" top: "im_info"
  input_param { shape { dim: [1, 3, 96, 128] } shape { dim: [1, 3] } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 8 kernel_size: 16 stride: 16 } }
layer { name: "score" type: "Convolution" bottom: "conv" top: "score"
  convolution_param { num_output: 18 kernel_size: 1 } }
layer { name: "moves" type: "Convolution" bottom: "conv" top: "moves"
  convolution_param { num_output: 36 kernel_size: 1 } }
layer { name: "pairs" type: "Reshape" bottom: "score" top: "pairs"
  reshape_param { shape { dim: [0, 2, -1, 0] } } }
layer { name: "prob" type: "Softmax" bottom: "pairs" top: "prob" }
layer { name: "maps" type: "Reshape" bottom: "prob" top: "maps" reshape_param { shape { dim: [0, 18, -1, 0] } } }
layer { name: "proposal" type: "Python" bottom: "maps" bottom: "moves" bottom: "im_info" top: "rois"
  python_param { module: "rpn.proposal_layer" layer: "ProposalLayer"
    param_str: "{'feat_stride': 16, 'scales': [1, 2, 4]}" } }
"""
HEAD = """
layer { name: "pool" type: "ROIPooling" bottom: "conv" bottom: "rois" top: "pool"
  roi_pooling_param { pooled_h: 3 pooled_w: 2 spatial_scale: 0.0625 } }
layer { name: "fc" type: "InnerProduct" bottom: "pool" top: "fc" inner_product_param { num_output: 5 } }
layer { name: "split" type: "Reshape" bottom: "fc" top: "split" reshape_param { shape { dim: [-1, 5, 1, 1] } } }
layer { name: "class" type: "Softmax" bottom: "split" top: "class" }
"""


def detector(folder: Path, text: str = RCNN + HEAD) -> Net:
    """A Faster R-CNN in small, with weights that keep its moves small and its scores apart."""
    path = folder / "net.prototxt"
    path.write_text(text)
    net = load_net(path, keep_blobs=True)
    rng = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, size in (("conv", 0.05), ("score", 0.5), ("moves", 0.2), ("fc", 0.2)):
            for blob in net.params.get(name, ()):
                blob.copy_(torch.randn(blob.shape, generator=rng) * size)
    return net


@pytest.mark.parametrize("make", [by_onnx, by_python])
@pytest.mark.parametrize("tops", ['top: "rois"', 'top: "rois" top: "scores"'])
def test_proposals_and_what_follows(tops: str, make, tmp_path: Path):
    net = detector(tmp_path, (RCNN + HEAD).replace('top: "rois"', tops))
    verdict = verify(NetRunner(net, "net"), make(net, tmp_path))
    assert verdict.same, str(verdict)
    assert not verdict.given
    values = {d.blob: d.shapes[0][0] for d in verdict.differences}
    assert values["rois"] == values["class"] > 5 * 10  # the comparison has something to compare
    assert "im_info 1 x 3 with typical values" in verdict.inputs


POOLS = {
    "ROIPooling": "roi_pooling_param { pooled_h: 3 pooled_w: 2 spatial_scale: 0.0625 }",
    "PSROIPooling": "psroi_pooling_param { output_dim: 2 group_size: 2 spatial_scale: 0.0625 }",
    "ROIAlign": "roi_pooling_param { pooled_h: 3 pooled_w: 2 spatial_scale: 0.0625 }",
    "ROIWarping": "roi_warping_param { pooled_h: 3 pooled_w: 2 spatial_scale: 0.0625 }",
    "ROIAlign of Mask R-CNN": "roi_align_param { pooled_h: 3 pooled_w: 2 spatial_scale: 0.0625 }",
    "ROIAlignment": "roi_alignment_param { pooled_h: 3 pooled_w: 2 spatial_scale: 0.0625 }",
    "DeformablePSROIPooling": "deformable_psroi_pooling_param { output_dim: 2 group_size: 2 sample_per_part: 2 "
    "no_trans: true spatial_scale: 0.0625 }",
    "PSROIAlign": "psroi_align_param { output_dim: 2 group_size: 2 sample_num: 3 spatial_scale: 0.0625 }",
}


@pytest.mark.parametrize("make", [by_onnx, by_python])
@pytest.mark.parametrize("kind", POOLS)
def test_no_region_is_found(kind: str, make, tmp_path: Path):
    head = HEAD.replace("ROIPooling", kind.partition(" ")[0]).replace(POOLS["ROIPooling"], POOLS[kind])
    net = detector(tmp_path, RCNN + head)
    runner = make(net, tmp_path)
    data = {"data": np.full((1, 3, 96, 128), 0.5, np.float32)}
    for size, is_empty in ((15, True), (96, False)):  # regions are 16 pixels wide and high, or larger
        blobs = runner.run(data | {"im_info": np.array([[size, size, 1]], np.float32)}).blobs
        assert (len(blobs["rois"]) == 0) == is_empty
        assert blobs["class"].shape == (len(blobs["rois"]), 5, 1, 1)


@pytest.mark.parametrize("make", [by_onnx, by_python])
@pytest.mark.parametrize("kind", POOLS)
def test_a_region_that_has_no_end_is_empty(kind: str, make, tmp_path: Path):
    sides = list(product([40, -500, 1e12, np.nan, np.inf, -np.inf], [100, 1e12, np.nan, np.inf, -np.inf]))
    rois = [(0, *region) for x1, x2 in sides for region in ((x1, 16, x2, 90), (16, x1, 90, x2))]
    path = tmp_path / "net.prototxt"
    path.write_text(f"""layer {{ name: "data" type: "Input" top: "map" top: "rois"
          input_param {{ shape {{ dim: [1, 8, 6, 8] }} shape {{ dim: [{len(rois)}, 5] }} }} }}
        layer {{ name: "pool" type: "{kind.partition(' ')[0]}" bottom: "map" bottom: "rois" top: "pool"
          {POOLS[kind]} }}""")
    net = load_net(path)
    values = {"map": np.random.default_rng(8).normal(3, 1, (1, 8, 6, 8)).astype(np.float32),
              "rois": np.array(rois, np.float32)}
    ours = net(**values)["pool"].numpy()
    np.testing.assert_allclose(make(net, tmp_path).run(values).blobs["pool"], ours, rtol=1e-4, atol=1e-5)
    assert ours[0].any()
    assert not ours[~np.isfinite(values["rois"]).all(1)].any()


def test_scales_of_regions_are_joined(tmp_path: Path):
    net = detector(tmp_path, RCNN + HEAD + """
layer { name: "bn" type: "BatchNorm" bottom: "pool" top: "bn" }
layer { name: "scale" type: "Scale" bottom: "bn" top: "scale" scale_param { bias_term: true } }""")
    model, _ = to_onnx(net, until=("scale",))
    assert [node.op_type for node in model.graph.node].count("BatchNormalization") == 1
    verdict = verify(NetRunner(net, "net"), by_onnx(net, tmp_path))
    assert verdict.same, str(verdict)
    assert "scale" in {d.blob for d in verdict.differences}


@pytest.mark.parametrize("make", [by_onnx, by_python])
@pytest.mark.parametrize("settings", [{"RPN_PRE_NMS_TOP_N": 40, "RPN_POST_NMS_TOP_N": 3}, {"RPN_MIN_SIZE": 60},
                                      {"RPN_POST_NMS_TOP_N": 0, "RPN_PRE_NMS_TOP_N": 0, "RPN_NMS_THRESH": 0.3}])
def test_settings_of_proposals(settings: dict, make, tmp_path: Path):
    net = detector(tmp_path)
    next(step for step in net.steps if step.layer.spec.name == "proposal").layer.settings.update(settings)
    verdict = verify(NetRunner(net, "net"), make(net, tmp_path))
    assert verdict.same, str(verdict)


def test_the_number_of_rows_is_a_symbol(tmp_path: Path):
    net = detector(tmp_path)
    net(data=torch.rand(1, 3, 96, 128), im_info=torch.tensor([[96.0, 128, 1]]))  # leaves its own number behind
    model, graph = to_onnx(net, until=("rois", "class"))
    shapes = {o.name: [d.dim_param or d.dim_value for d in o.type.tensor_type.shape.dim] for o in model.graph.output}
    assert shapes == {"rois": ["R", 5], "class": ["R", 5, 1, 1]}
    assert "one image at a time" in graph.why_fixed


def test_a_layer_that_takes_a_fixed_number_of_rows_is_named(tmp_path: Path):
    net = detector(tmp_path, RCNN + """layer { name: "fixed" type: "InnerProduct" bottom: "rois" top: "fixed"
        inner_product_param { num_output: 2 axis: 0 } }""")
    with pytest.raises(LayerError, match=r"fixed \(InnerProduct\): cannot be converted: its parameters fit only"):
        to_onnx(net)


class TestPieceByPiece:
    """B's scores differ by less than a millionth, and are equal but for that: so B takes other regions."""

    def compared(self, folder: Path, change) -> Verdict:
        net = detector(folder)
        data = {"data": np.full((1, 3, 96, 128), 0.5, np.float32), "im_info": np.array([[96, 128, 1]], np.float32)}
        with torch.no_grad():
            net.params["score"][0].zero_()
            net.params["score"][1].fill_(1)
            a = NetRunner(detector(folder), "net")
            a.net.load_state_dict(net.state_dict())
            net.params["score"][1][9:] += torch.linspace(0, 1e-6, 9).flip(0)
            change(net)
        return verify(a, by_onnx(net, folder), data)

    def test_other_regions_of_equal_scores_are_no_difference(self, tmp_path: Path):
        verdict = self.compared(tmp_path, lambda net: None)
        assert verdict.same, str(verdict)
        assert set(verdict.given) == {"maps", "moves", "rois"}
        assert "layers that read moves, maps, rois were given A's values" in verdict.sentence
        assert {d.blob for d in verdict.differences} >= {"conv", "prob", "maps", "moves", "rois", "pool", "fc", "class"}

    def test_weights_before_the_regions_count(self, tmp_path: Path):
        def change(net: Net) -> None:
            net.params["moves"][0].mul_(1.01)

        verdict = self.compared(tmp_path, change)
        assert [d.blob for d in verdict.differences if not d.is_same] == ["moves"]

    def test_the_choice_of_regions_counts(self, tmp_path: Path):
        def change(net: Net) -> None:
            layer = next(step for step in net.steps if step.layer.spec.name == "proposal").layer
            layer.settings["RPN_NMS_THRESH"] = 0.5

        verdict = self.compared(tmp_path, change)
        assert [d.blob for d in verdict.differences if not d.is_same] == ["rois"]

    def test_weights_behind_the_regions_count(self, tmp_path: Path):
        def change(net: Net) -> None:
            net.params["fc"][0].mul_(1.01)

        verdict = self.compared(tmp_path, change)
        assert verdict.first is not None
        assert verdict.first.blob == "fc"


def test_a_single_value_stays_a_single_value(tmp_path: Path):
    model, _ = to_onnx(detector(tmp_path))
    assert [] in [list(value.dims) for value in model.graph.initializer]
    onnx.checker.check_model(model, full_check=True)


FILTER = """
layer { name: "data" type: "Input" top: "data" top: "choice" input_param { shape { dim: [4, 2, 3] } shape { dim: 4 } } }
layer { name: "chosen" type: "Filter" bottom: "data" bottom: "choice" bottom: "choice" top: "chosen" top: "chose" }
layer { name: "fc" type: "InnerProduct" bottom: "chosen" top: "fc" inner_product_param { num_output: 5
  weight_filler { type: "xavier" } } }
layer { name: "back" type: "Reshape" bottom: "fc" top: "back" reshape_param { shape { dim: [0, 1, 5] } } }
"""


@pytest.mark.parametrize("make", [by_onnx, by_python])
@pytest.mark.parametrize("choice", [[1, 0, -0.5, 0], [0, 0, 0], [1, 2, 3, 4, 5], [np.nan]])
def test_samples_that_a_bottom_picks(choice: list, make, tmp_path: Path):
    path = tmp_path / "net.prototxt"
    path.write_text(FILTER)
    net = load_net(path, keep_blobs=True)
    values = {"data": np.random.default_rng(5).normal(size=(len(choice), 2, 3)).astype(np.float32),
              "choice": np.array(choice, np.float32)}
    runner = make(net, tmp_path)
    ours = net(**values)
    got = runner.run(values).blobs
    for blob in ("chose", "back"):
        np.testing.assert_allclose(got[blob], ours[blob].detach().numpy(), rtol=1e-5, atol=1e-6)
    assert len(got["back"]) == np.count_nonzero(choice)


def test_a_comparison_picks_some_samples(tmp_path: Path):
    path = tmp_path / "net.prototxt"
    path.write_text(FILTER)
    net = load_net(path)
    verdict = verify(NetRunner(net, "net"), by_onnx(net, tmp_path))
    assert verdict.same, str(verdict)
    assert 0 < verdict.differences[0].shapes[0][0] < 4
    assert net.inputs["data"][0] == 4
