"""Layers of forks in ONNX and as PyTorch: for another batch than the prototxt's, and where values are missing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from exported import by_onnx, by_python

from rmpe_legacy import load_net
from rmpe_legacy.caffe.net import Net
from rmpe_legacy.compare.verify import random_input, verify
from rmpe_legacy.errors import LayerError
from rmpe_legacy.export.onnx import to_onnx
from rmpe_legacy.formats.base import NetRunner

MAPS = {
    "Grid": (3, 0, ""),
    "NegSquare": (3, 0, ""),
    "ExpMax": (4, 0, "expmax_param { base: 2 shift: 0.5 }"),
    "Tiling": (12, 0, "tiling_param { tile_dim: 2 }"),
    "CropCenter": (2, 0, "crop_center_param { crop_size: [0, 0, 2, 3] }"),
    "Correlation": (6, 6, "correlation_param { kernel_size: 3 max_displacement: 4 pad: 4 stride_1: 2 stride_2: 2 }"),
    "FlowWarp": (3, 2, ""),
    "Warp": (3, 2, ""),
    "FlowTransformer": (3, 2, ""),
    "Resample": (2, 0, "resample_param { width: 17 height: 5 type: CUBIC }"),
    "Downsample": (2, 0, "downsample_param { top_width: 5 top_height: 4 }"),
    "ChannelNorm": (3, 0, ""),
    "Mean": (6, 0, "mean_param { operation: SUBTRACT value: [104, 117, 123] input_scale: 2 output_scale: 0.5 }"),
    "MaskPooling": (3, 1, ""),
    "MaskResize": (2, 0, "mask_resize_param { output_height: 14 output_width: 5 }"),
    "DeformableConvolution": (4, 2 * 6 * 2, "deformable_convolution_param { num_output: 6 kernel_h: 3 kernel_w: 2 "
                              "pad_h: 1 group: 2 deformable_group: 2 weight_filler { type: 'xavier' } }"),
    "ContinuationIndicator": (1, 0, "continuation_indicator_param { time_step: 4 }"),
    "GroupNorm": (4, 0, "group_norm_param { group_num: 2 }"),
    "CompactBilinear": (3, 5, "compact_bilinear_param { num_output: 30 }"),
    "Im2col": (3, 0, "convolution_param { kernel_h: 3 kernel_w: 2 pad_h: 1 pad_w: 2 stride: 2 dilation: 2 }"),
    "Unpooling": (3, 0, "unpooling_param { unpool: MAX kernel_size: 2 stride: 2 unpool_size: 23 }"),
    "Im2dist": (3, 0, "convolution_param { kernel_h: 3 kernel_w: 2 pad_h: 1 stride: 2 } im2dist_param { norm: L1 "
                "remove_bounds: true }"),
    "Im2parity": (1, 0, "convolution_param { kernel_size: 3 dilation: 2 } im2parity_param { ignore_label: 2 }"),
    "MTranspose": (6, 0, "mtranspose_param { groups: 3 }"),
    "DynamicMaskData": (3, 0, ""),
    "Local": (2, 0, "local_param { num_output: 4 kernel_size: 3 pad: 1 stride: 2 weight_filler { type: 'xavier' } "
              "bias_filler { type: 'uniform' } }"),
    "BBTXTBB": (7, 0, "bbtxt_bb_param { ideal_size: 40 downsampling: 3 }"),
    "BReLU": (2, 0, "brelu_param { minval: -1 maxval: 2 }"),
    "GlobalSumPooling": (2, 0, ""),
    "CornerCrop": (2, 0, "corner_crop_param { crop_h: 5 crop_w: 3 position: 'lowerright' }"),
    "AttPooling": (2, 9, "att_pooling_param { kernel_size: 3 pad: 1 }"),
    "BdctToSpatial": (64, 0, ""),
    "DenseBlock": (3, 0, "denseblock_param { numTransition: 2 growthRate: 2 use_BC: true Filter_Filler { type: "
                   "'xavier' } BN_Scaler_Filler { type: 'constant' value: 1 } }"),
    "ReNetLSTM": (2, 0, "renet_lstm_param { num_output: 3 patch_height: 3 patch_width: 1 direction: Y_DIR peephole: "
                  "true general_weight_filler { type: 'xavier' } }"),
    "Remap": (3, 2, ""),
    "SpatialWta": (2, 0, "spatial_wta_param { kernel_size: 3 stride: 2 }"),
    "InnerDistance": (2, 0, "inner_distance_param { num_output: 5 normalize: true weight_filler { type: 'xavier' } }"),
}
SIZES = {"DeformableConvolution": (9, 10)}  # of the second bottom, one column less
BY_PIXEL = {"MultiROIPooling": """layer { name: "l" type: "MultiROIPooling" bottom: "a" bottom: "b" top: "l" top: "m"
  multi_roi_pooling_param { top_num: 2 pooled_h: 3 pooled_w: 4 spatial_scale: 0.5 } }""", "HyperColumns": """
layer { name: "l" type: "HyperColumns" bottom: "a" bottom: "b" bottom: "c" top: "l" top: "m"
  hypercolumns_param { is_train: false skip_ratio: 4 } }""", "SparseHypercolumnExtractor": """
layer { name: "l" type: "SparseHypercolumnExtractor" bottom: "a" bottom: "b" top: "l"
  sparse_hypercolumn_extractor_param { scale: 2 offset_height: 1 offset_width: -3 } }"""}


def network(folder: Path, kind: str, batch: int) -> Net:
    channels, more, param = MAPS[kind]
    h, w = 9, 11
    inputs = [("a", (batch, channels, h, w))]
    if more:
        inputs.append(("b", (batch, more, *SIZES.get(kind, (h, w)))))
    text = "".join(f'layer {{ name: "{name}" type: "Input" top: "{name}" input_param {{ shape {{ dim: {list(shape)} }} '
                   "} }\n" for name, shape in inputs)
    bottoms = " ".join(f'bottom: "{name}"' for name, _ in inputs)
    path = folder / f"{batch}.prototxt"
    path.write_text(f'{text}layer {{ name: "l" type: "{kind}" {bottoms} top: "l" {param} }}\n')
    return load_net(path, keep_blobs=True, dialect="pwc-net" if kind == "Warp" else "auto")


@pytest.mark.parametrize("make", [by_onnx, by_python])
@pytest.mark.parametrize("kind", MAPS)
def test_takes_any_batch(kind: str, make, tmp_path: Path):
    written, other = network(tmp_path, kind, 2), network(tmp_path, kind, 3)
    other.load_state_dict(written.state_dict())
    rng = np.random.default_rng(3)
    values = {name: rng.normal(0, 2, shape).astype(np.float32) for name, shape in other.inputs.items()}
    verdict = verify(NetRunner(other, "net"), make(written, tmp_path), values)
    assert verdict.same, str(verdict)
    assert next(d.shapes for d in verdict.differences if d.blob == "l")[0] == other(**values)["l"].shape


@pytest.mark.parametrize("make", [by_onnx, by_python])
@pytest.mark.parametrize(("kind", "shapes"), [
    ("MultiROIPooling", [(3, 6, 8), (2, 2)]), ("HyperColumns", [(2, 6, 9), (3, 2, 3), (1, 6, 9)]),
    ("SparseHypercolumnExtractor", [(5, 2), (3, 6, 9)])])
def test_places_of_maps_in_any_batch(kind: str, shapes: list, make, tmp_path: Path):
    def net(batch: int) -> Net:
        path = tmp_path / f"{batch}.prototxt"
        tops, dims = ("".join(map(form, values)) for form, values in (
            (' top: "{}"'.format, "abc"[: len(shapes)]),
            (" shape {{ dim: {} }}".format, [[batch, *shape] for shape in shapes])))
        path.write_text(f'layer {{ name: "data" type: "Input"{tops} input_param {{{dims} }} }}\n{BY_PIXEL[kind]}')
        return load_net(path, keep_blobs=True)

    written, other = net(2), net(3)
    rng = np.random.default_rng(3)
    values = {name: rng.uniform(-9, 25, shape).astype(np.float32) for name, shape in other.inputs.items()}
    verdict = verify(NetRunner(other, "net"), make(written, tmp_path), values)
    assert verdict.same, str(verdict)
    assert {d.blob: d.shapes[0] for d in verdict.differences} == {
        name: tuple(value.shape) for name, value in other(**values).items()}


@pytest.mark.parametrize("make", [by_onnx, by_python])
@pytest.mark.parametrize("undone", ['type: "Upsample" upsample_param { upsample_h: 9 upsample_w: 10 }',
                                    'type: "Unpooling" unpooling_param { kernel_size: 2 stride: 2 unpool_h: 9 '
                                    "unpool_w: 10 }"])
def test_a_pooling_undone_by_its_mask_in_any_batch(undone: str, make, tmp_path: Path):
    def net(batch: int) -> Net:
        path = tmp_path / f"{batch}.prototxt"
        path.write_text(f"""
layer {{ name: "a" type: "Input" top: "a" input_param {{ shape {{ dim: [{batch}, 3, 9, 10] }} }} }}
layer {{ name: "p" type: "Pooling" bottom: "a" top: "p" top: "mask" pooling_param {{ kernel_size: 2 stride: 2 }} }}
layer {{ name: "l" bottom: "p" bottom: "mask" top: "l" {undone} }}""")
        return load_net(path, keep_blobs=True)

    values = {"a": np.random.default_rng(6).normal(size=(3, 3, 9, 10)).astype(np.float32)}
    verdict = verify(NetRunner(net(3), "net"), make(net(8), tmp_path), values)
    assert verdict.same, str(verdict)
    assert verdict.differences[-1].shapes[1] == (3, 3, 9, 10)


@pytest.mark.parametrize("make", [by_onnx, by_python])
def test_statistics_of_the_batch_as_tops_of_segnets_bn(make, tmp_path: Path):
    path = tmp_path / "net.prototxt"
    path.write_text("""layer { name: "a" type: "Input" top: "a" input_param { shape { dim: [4, 3] } } }
        layer { name: "bn" type: "BN" bottom: "a" top: "bn" top: "mean" top: "variance" bn_param { bn_mode: LEARN
        scale_filler { type: "uniform" min: 1 max: 2 } shift_filler { type: "uniform" min: 0 max: 1 } } }""")
    net = load_net(path, keep_blobs=True)
    values = np.random.default_rng(4).normal(2, 3, (4, 3)).astype(np.float32)
    verdict = verify(NetRunner(net, "net"), make(net, tmp_path), {"a": values})
    assert verdict.same, str(verdict)
    assert [(d.blob, d.shapes[1]) for d in verdict.differences] == [
        ("bn", (4, 3, 1, 1)), ("mean", (1, 3, 1, 1)), ("variance", (1, 3, 1, 1))]


@pytest.mark.parametrize("make", [by_onnx, by_python])
@pytest.mark.parametrize("size", [(30, 41), (1, 3)])
def test_a_lattice_of_the_colours_of_an_image(size: tuple, make, tmp_path: Path):
    path = tmp_path / "net.prototxt"
    inputs = ", ".join(map(str, size))
    path.write_text(f"""layer {{ name: "d" type: "Input" top: "u" top: "q" top: "i" input_param {{
          shape {{ dim: [2, 4, {inputs}] }} shape {{ dim: [2, 4, {inputs}] }} shape {{ dim: [2, 3, {inputs}] }} }} }}
        layer {{ name: "l" type: "MultiStageMeanfield" bottom: "u" bottom: "q" bottom: "i" top: "y"
        multi_stage_meanfield_param {{ num_iterations: 3 theta_alpha: 8 theta_beta: 3 theta_gamma: 2 }} }}""")
    net = load_net(path, keep_blobs=True)
    with torch.no_grad():
        net.steps[-1].layer.spatial[0, 0] = 0.5 * torch.eye(4)
        net.steps[-1].layer.bilateral[0, 0] = torch.eye(4) + 0.1
    rng = np.random.default_rng(7)
    values = {"u": rng.normal(0, 2, (2, 4, *size)), "q": rng.normal(0, 2, (2, 4, *size)),
              "i": random_input(rng, (2, 3, *size), (-120, 130))}
    verdict = verify(NetRunner(net, "net"), make(net, tmp_path),
                     {name: value.astype(np.float32) for name, value in values.items()})
    assert verdict.same, str(verdict)


def test_hypercolumns_of_random_places_are_refused(tmp_path: Path):
    path = tmp_path / "net.prototxt"
    path.write_text("""layer { name: "a" type: "Input" top: "a" top: "b"
          input_param { shape { dim: [1, 2, 6, 6] } shape { dim: [1, 3, 2, 2] } } }
        layer { name: "l" type: "HyperColumns" bottom: "a" bottom: "b" top: "l" top: "m"
        hypercolumns_param { is_train: true sample_num: 3 } }""")
    with pytest.raises(LayerError, match=r"l \(HyperColumns\): cannot be converted to ONNX: is_train: true picks"):
        to_onnx(load_net(path))


@pytest.mark.parametrize("make", [by_onnx, by_python])
def test_a_flow_that_points_outside_or_nowhere(make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(MAPS, "FlowWarp", (3, 2, "flow_warp_param { fill_value: NOT_A_NUMBER }"))
    net = network(tmp_path, "FlowWarp", 1)
    flow = np.zeros((1, 2, 9, 11), np.float32)
    flow[0, :, 0, 0], flow[0, :, 4, 4] = -0.5, 100
    flow[0, 0, :, 10], flow[0, 0, 2, 2] = 0.5, np.nan
    image = np.random.default_rng(1).normal(size=(1, 3, 9, 11)).astype(np.float32)
    top = make(net, tmp_path).run({"a": image, "b": flow}).blobs["l"]
    assert np.array_equal(top, net(a=image, b=flow)["l"].numpy(), equal_nan=True)
    missing = np.isnan(top).any(axis=(0, 1))
    assert [tuple(place) for place in np.argwhere(missing)] == [(0, 0), (2, 2), (4, 4)]
    np.testing.assert_array_equal(top[0, :, 5, 10], image[0, :, 5, 10])  # half a pixel beyond the last column


@pytest.mark.parametrize("make", [by_onnx, by_python])
def test_downsample_leaves_out_missing_values(make, tmp_path: Path):
    net = network(tmp_path, "Downsample", 1)
    image = np.random.default_rng(2).normal(size=(1, 2, 9, 11)).astype(np.float32)
    image[0, 0, 0, 0] = image[0, 1, 4, 3] = image[0, 1, 4:7, 4:8] = np.nan
    top = make(net, tmp_path).run({"a": image}).blobs["l"]
    ours = net(a=image)["l"].numpy()
    np.testing.assert_allclose(top, ours, rtol=1e-5, atol=1e-6)
    assert 0 < np.isnan(top).sum() < 6


@pytest.mark.parametrize("make", [by_onnx, by_python])
def test_offsets_that_point_nowhere_read_nothing(make, tmp_path: Path):
    net = network(tmp_path, "DeformableConvolution", 1)
    rng = np.random.default_rng(3)
    values = {"a": rng.normal(size=(1, 4, 9, 11)).astype(np.float32),
              "b": rng.normal(0, 3, (1, 24, 9, 10)).astype(np.float32)}
    values["b"][0, ::5] = np.nan
    values["b"][0, 1::5] = np.inf
    values["b"][0, 2::5] = -1e30
    top = make(net, tmp_path).run(values).blobs["l"]
    np.testing.assert_allclose(top, net(**values)["l"].detach().numpy(), rtol=1e-5, atol=1e-6)


def test_a_suppression_that_onnx_lacks_is_refused(tmp_path: Path):
    path = tmp_path / "net.prototxt"
    path.write_text("""layer { name: "a" type: "Input" top: "a" input_param { shape { dim: [1, 7, 4, 5] } } }
        layer { name: "boxes" type: "BoxOutput" bottom: "a" top: "boxes" box_output_param { field_w: 40 field_h: 40
        downsample_rate: 8 nms_type: "IOMU" } }""")
    with pytest.raises(LayerError, match=r"boxes \(BoxOutput\): cannot be converted to ONNX: nms_type IOMU; ONNX's"):
        to_onnx(load_net(path))


@pytest.mark.parametrize("make", [by_onnx, by_python])
def test_of_equal_scores_box_output_takes_the_later_one(make, tmp_path: Path):
    path = tmp_path / "net.prototxt"
    path.write_text("""layer { name: "a" type: "Input" top: "a" top: "b"
          input_param { shape { dim: [2, 7, 4, 5] } shape { dim: [2, 7, 2, 3] } } }
        layer { name: "boxes" type: "BoxOutput" bottom: "a" bottom: "b" top: "boxes" top: "scores" box_output_param {
        field_w: [40, 60] field_h: [40, 60] downsample_rate: [8, 16] nms_type: "IOU" iou_thr: 0.85 fg_thr: 0
        max_nms_num: 20 max_post_nms_num: 6 } }""")
    net = load_net(path, keep_blobs=True)
    values = {"a": torch.zeros(2, 7, 4, 5), "b": torch.zeros(2, 7, 2, 3)}
    for value in values.values():
        value[:, 1] = 1
    got = make(net, tmp_path).run({name: value.numpy() for name, value in values.items()}).blobs
    ours = net(**values)
    assert len(ours["scores"]) == 12
    for name in ("boxes", "scores"):
        np.testing.assert_allclose(got[name], ours[name].numpy(), rtol=1e-6)


@pytest.mark.parametrize("make", [by_onnx, by_python])
@pytest.mark.parametrize(("least", "eps", "height"), [(0, 0.2, 5), (1, 0.2, 0), (1, 0.7, 20), (3, 0.4, 0)])
def test_groups_of_detectnet(least: int, eps: float, height: int, make, tmp_path: Path):
    path = tmp_path / "net.prototxt"
    path.write_text("""layer { name: "a" type: "Input" top: "cover" top: "boxes"
          input_param { shape { dim: [2, 2, 6, 7] } shape { dim: [2, 4, 6, 7] } } }
        layer { name: "cluster" type: "Python" bottom: "cover" bottom: "boxes" top: "one" top: "two" python_param {
        module: "caffe.layers.detectnet.clustering" layer: "ClusterDetections"
        param_str: "112, 96, 16, 0.7, %d, %g, %d, 2" } }""".replace("%d", str(least), 1).replace("%g", str(eps))
                    .replace("%d", str(height)))
    net = load_net(path, keep_blobs=True)
    runner = make(net, tmp_path)
    sizes = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        middle = rng.uniform(0, 100, (2, 2, 1, 1)) - np.indices((6, 7))[::-1] * 16  # all cells see much the same
        size = rng.choice([20, 21, 60], (2, 1, 6, 7)) * [1, 0.2, -0.1][seed % 3 if seed > 8 else 0]
        boxes = np.concatenate([middle - size, middle + size], 1) + rng.normal(0, 4 * (seed % 4), (2, 4, 6, 7))
        values = {"cover": rng.uniform(0, 1, (2, 2, 6, 7)).astype(np.float32), "boxes": boxes.astype(np.float32)}
        got, ours = runner.run(values).blobs, net(**values)
        for name in ("one", "two"):
            np.testing.assert_array_equal(got[name], ours[name].numpy())
            sizes += [int((top != 0).any(1).sum()) for top in got[name]]
    assert max(sizes) > 1
    assert len(set(sizes)) > 1


@pytest.mark.parametrize("make", [by_onnx, by_python])
@pytest.mark.parametrize("first", ["", ' bottom: "arm_conf"', ' bottom: "arm_conf" bottom: "arm_loc"'],
                         ids=["one stage", "objectness", "moved priors"])
@pytest.mark.parametrize("in_target", ["true", "false"])
def test_detections_of_refinedet(first: str, in_target: str, make, tmp_path: Path):
    path = tmp_path / "net.prototxt"
    path.write_text("""layer { name: "data" type: "Input" top: "image" top: "map" top: "loc" top: "conf" top: "arm_conf"
          top: "arm_loc" input_param { shape { dim: [2, 3, 32, 40] } shape { dim: [2, 1, 4, 5] } shape { dim: [2, 160] }
          shape { dim: [2, 120] } shape { dim: [2, 80] } shape { dim: [2, 160] } } }
        layer { name: "prior" type: "PriorBox" bottom: "map" bottom: "image" top: "prior"
          prior_box_param { min_size: 8 max_size: 16 variance: [0.1, 0.1, 0.2, 0.2] } }
        layer { name: "found" type: "DetectionOutput" bottom: "loc" bottom: "conf" bottom: "prior"FIRST top: "found"
          detection_output_param { num_classes: 3 code_type: CENTER_SIZE nms_param { nms_threshold: 0.4 top_k: 30 }
          keep_top_k: 20 confidence_threshold: 0.3 variance_encoded_in_target: TARGET objectness_score: 0.4 } }
        """.replace("FIRST", first).replace("TARGET", in_target))
    net = load_net(path, dialect="refinedet", keep_blobs=True)
    rng = np.random.default_rng(5)
    values = {name: rng.uniform(0, 1, shape).astype(np.float32) for name, shape in net.inputs.items()}
    got = make(net, tmp_path).run(values).blobs["found"]
    ours = net(**values)["found"].numpy()
    assert ours.shape[2] > 20
    np.testing.assert_allclose(got, ours, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("make", [by_onnx, by_python])
@pytest.mark.parametrize(("kind", "shape", "param"), [
    ("ChannelReduce", (2, 6, 4), "channel_reduce_param { num_channels: 3 operation: SUM }"),
    ("SplitChannel", (2, 6), "memory_data_param { channels: 4 }"),
    ("Padding", (1, 2, 3), "padding_param { pad_beg: 2 pad_end: 1 }"),
    ("Grid", (2, 3, 4), ""), ("Grid", (2, 1), ""), ("L2Normalize", (3,), ""), ("SeLUDropout", (), ""),
])
def test_a_bottom_with_fewer_axes(make, kind, shape, param, tmp_path: Path):
    path = tmp_path / "net.prototxt"
    path.write_text(f"""layer {{ name: "x" type: "Input" top: "x" input_param {{ shape {{ dim: {list(shape)} }} }} }}
        layer {{ name: "l" type: "{kind}" bottom: "x" top: "y" {param} }}""")
    net = load_net(path, dialect="mixed", keep_blobs=True)
    values = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    assert verify(NetRunner(net, "net"), make(net, tmp_path), {"x": values}).same
