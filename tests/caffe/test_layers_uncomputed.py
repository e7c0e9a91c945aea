"""Layers of forks that have shapes and refuse to run: the shapes that the forks' Reshape gives."""

from pathlib import Path

import pytest

from rmpe_legacy import load_net
from rmpe_legacy.errors import LayerError, NetError

MAP, REGIONS, ONE = (2, 8, 5, 6), (3, 5), (2, 1, 1, 1)
SPLIT = [ONE, (3, 2, 1, 1), (3, 1, 1, 1), *[(3, 8, 1, 1)] * 3]
TARGETS = "proposal_target_param { cls_num: 4 batch_size: 7 bbox_mean: 0 bbox_std: 1 }"
SHAPES = {
    "CAROIPooling": ("caroi_pooling_param { pooled_h: 7 pooled_w: 5 }", [MAP, REGIONS], [(3, 8, 7, 5)]),
    "ROISplit": ("roi_split_param { branch_num: 2 }", [REGIONS], [(2, 1, 1, 1), (3, 2, 1, 1)]),
    "ROIFeatureSplit": ("", [(3, 8, 7, 5), ONE, (3, 2, 1, 1)], [(1, 8, 7, 5)] * 2),
    "LabelSplit2": ("", SPLIT, [(1, 1, 1, 1), *[(1, 8, 1, 1)] * 3] * 2),
    "LabelSplit3": ("", SPLIT, [(1, 1, 1, 1), *[(1, 8, 1, 1)] * 3] * 3),
    "Detection": ("detection_param { cls_num: 4 }", [MAP, (2, 6, 5, 6)], [(1, 1, 1, 2)]),
    "ProposalTarget": (TARGETS, [REGIONS, (2, 7)], [(7, 5, 1, 1), (7, 1, 1, 1), *[(7, 16, 1, 1)] * 3]),
    "SmoothL1Loss2": ("", [(3, 8)] * 4 + [ONE], [()]),
    "SoftmaxWithLoss2": ("", [(3, 4), (3, 1), ONE], [(), (3, 4)]),
    "DeformablePSROIPool": ("deformable_peroi_param { spatial_scale: 1 output_dim: 2 group_size: 2 sample_num: 4 }",
                            [MAP, REGIONS, (3, 4, 2, 2)], [(3, 2, 2, 2)]),
    "ROIAlign": ("roi_align_param { pooled_h: 3 pooled_w: 4 }", [MAP, REGIONS], [(3, 8, 3, 4)]),
    "RestrainLoss": ("restrain_loss_param { spatial_scale: 19 }", [MAP, (1, 1, 3, 8)], [()]),
    "PostClassLoss": ("", [(2, 8), (1, 1, 4, 7), (1, 1, 3, 8)], [()]),
    "PostClassOutput": ("detection_output_param { num_classes: 4 }", [(1, 1, 4, 7), (2, 8)], [(1, 1, 1, 7)]),
    "RankHardLoss": ("rank_param { pair_size: 4 }", [(4, 6), (4,), (4,)], [()]),
    "SetLoss2": ("", [(4, 6), (4,)], [()]),
    "MssimLoss": ("", [MAP, MAP], [()]),
    "EntropyGmmLoss": ("", [(60, 3)] * 3 + [(2, 1, 5, 6)], [()]),
    "LOTLoss": ("lot_param { method: L2 }", [MAP], [()]),
    "MLQuant": ("mlquant_param { groups: 4 }", [MAP], [MAP, MAP]),
    "DecoderQuant": ("mlquant_param { groups: 4 }", [MAP], [MAP]),
    "DecoderInput": ("decoder_param { nchannels: 4 }", [(2, 1, 5, 6)], [(2, 4, 5, 6)]),
    "DecoderExtract": ("", [MAP], [(2, 1, 5, 6)]),
    "DecoderOutput": ("decoder_param { nchannels: 4 }", [MAP], [(61, 1, 1, 3)]),
    "DecoderConv3": ("convolution_param { num_output: 3 kernel_size: 5 constrain: 5 }", [MAP], [(2, 3, 5, 6)]),
    "NormConvMeanfield": ("", [MAP, MAP, (2, 5, 5, 6), (2, 2, 5, 6)], [MAP]),
    "SoftmaxWithLossExpectation": ("loss_param { is_siftflow: false }", [MAP, (2, 2, 5, 6)], [()]),
    "LiftedStructSimilaritySoftmaxLoss": ("", [(4, 6), (4, 1)], [()]),
    "SigmoidCrossEntropyWeightedLoss": ("", [(4, 6)] * 3, [()]),
    "GenSlicinfo": ("gen_slicinfo_param { image_size: 36 slic_size: 18 }", [(2, 3, 36, 36)],
                    [(2, 1, 36, 36), (2, 1, 2, 2)]),
    "LowlevelDistance": ("lowlevel_distance_param { train_region_per_image: 0 feature_option: 1 grid_size: 3 }",
                         [(2, 3, 36, 36), (2, 1, 36, 36), (2, 1, 2, 2)], [(8, 2, 3, 3), (8,)]),
    "CheckAtt": ("", [(1, 1, 1, 42)] * 2, [(1, 1, 1, 42)] * 2),
    "ArgMaxAll": ("argmax_param { axis: -1 }", [(1, 1, 1, 4000)] * 2, [(1, 1, 1, 1000)]),
    "ConvertIndices": ("", [(1, 1, 1, 10), (1, 1, 1, 42)], [(1, 1, 1, 42), (10, 1, 1, 1)]),
    "FlagsToIndices": ("", [(1, 1, 1, 42)], [(0, 1, 1, 1)]),
    "SplitIndices": ("", [(1, 1, 1, 42), (1, 1, 1, 30), (1, 1, 1, 12)], [(1, 1, 1, 30), (1, 1, 1, 12)]),
    "SlidingWindowIndex": ("sliding_window_param { window_h: 10 window_w: 8 }", [(1, 8, 5, 6), (1, 1, 1, 42)],
                           [(1, 8, 10, 8)]),
    "TopKOld": ("", [(7, 8, 10, 10), (7, 1), (5, 1, 1, 1)], [(5, 8, 10, 10), (5, 1, 1, 1)]),
    "TileProduct": ("", [MAP, (2, 1, 5, 6)], [MAP]),
    "DenseCRF": ("", [MAP, ONE, (2, 3, 5, 6)], [MAP]),
    "SpatialWta": ("spatial_wta_param { global_wta: true }", [MAP], [MAP, MAP]),
    "RNDropout": ("rn_dropout_param { num_drop_blobs: 1 }", [MAP, MAP], [MAP, MAP]),
    "RotateROIPooling": ("rotate_pooling_param { pooled_h: 3 pooled_w: 4 }", [MAP, (3, 6), (1, 3)], [(3, 8, 3, 4)]),
    "MultiChannelSigmoidCrossEntropyLoss": ("", [MAP, (2, 1, 5, 6)], [()]),
    "MultiChannelReweightedSigmoidCrossEntropyLoss": ("", [MAP, (2, 1, 5, 6)], [()]),
    "JSDLoss": ("", [(3, 8), (3, 8)], [()]),
    "RSJSDLoss": ("", [(3, 8), (3, 8)], [()]),
}


def network(kind: str, text: str, bottoms: list[tuple[int, ...]], tops: int, path: Path) -> Path:
    lines = [f'layer {{ name: "x{i}" type: "Input" top: "x{i}" input_param {{ shape {{ dim: {list(shape)} }} }} }}'
             for i, shape in enumerate(bottoms)]
    names = [*(f'bottom: "x{i}"' for i in range(len(bottoms))), *(f'top: "y{i}"' for i in range(tops))]
    path.write_text("\n".join([*lines, f'layer {{ name: "l" type: "{kind}" {" ".join(names)} {text} }}']))
    return path


@pytest.mark.parametrize("kind", SHAPES)
def test_has_the_forks_shapes_and_refuses_to_run(kind: str, tmp_path: Path):
    text, bottoms, tops = SHAPES[kind]
    path = network(kind, text, bottoms, len(tops), tmp_path / "net.prototxt")
    net = load_net(path, phase="TRAIN")
    assert list(net.steps[-1].top_shapes) == tops
    with pytest.raises(LayerError, match="its shape is known, but its values cannot be computed"):
        net.steps[-1].layer.forward()


@pytest.mark.parametrize(("kind", "text", "bottoms", "tops", "words"), [
    ("CAROIPooling", "", [MAP, REGIONS], 1, "needs features, regions, and pooled_h and pooled_w above 0"),
    ("ROISplit", "roi_split_param { branch_num: 4 }", [REGIONS], 2, "branch_num must be 2 or 3, not 4"),
    ("ROIFeatureSplit", "", [MAP, ONE, ONE], 3, "has 2 branches, but 3 tops"),
    ("Detection", "", [MAP, (2, 6, 5, 5)], 1, "needs scores and targets for the same places"),
    ("ROIAlign", "roi_align_param { pooled_w: 4 }", [MAP, REGIONS], 1, "and pooled_h and pooled_w above 0"),
    ("DeformablePSROIPooling", "deformable_psroi_pooling_param { spatial_scale: 1 output_dim: 2 group_size: 2 }",
     [MAP, REGIONS], 1, "needs offsets as its third bottom, and part_size; or no_trans: true"),
    ("GRN", "grn_param { bias: -1 }", [MAP], 1, "bias must not be negative, but is -1"),
    ("ScaleFilter", "scale_filter_param { min_scale: 2 max_scale: 1 }", [MAP], 1, "max_scale above min_scale"),
])
def test_says_what_a_layer_needs(kind: str, text: str, bottoms: list, tops: int, words: str, tmp_path: Path):
    with pytest.raises((LayerError, NetError), match=words):
        load_net(network(kind, text, bottoms, tops, tmp_path / "net.prototxt"), phase="TRAIN")
