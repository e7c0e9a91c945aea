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
    "TopK": ("", [(7, 8, 10, 10), (7, 1), (5, 1, 1, 1)], [(5, 8, 10, 10), (5, 1, 1, 1)]),
    "ArgMaxMy": ("argmax_param { axis: -1 }", [(1, 1, 1, 4000)] * 2, [(1, 1, 1, 0)]),
    "NormalizedSigmoidCrossEntropyLoss": ("", [MAP, MAP], [()]),
    "DSALoss": ("dsa_loss_param { faceid_num: 4 seqid_num: 3 lambda: 0.5 }", [(4, 6), (4,)], [()]),
    "LSROLoss": ("", [(4, 6), (4,)], [(), (4, 6)]),
    "SmoothMarginInnerProduct": ("smooth_margin_inner_product_param { num_output: 5 }", [(4, 6), (4,)], [(4, 5), (1,)]),
    "GANLoss": ("", [(4, 1), (4,)], [()]),
    "WeightEuclideanLoss": ("", [(4, 6)] * 2, [()]),
    "GlobalLSEMargin": ("", [(4, 6), (4,)], [(4, 6), (5,)]),
    "AssistedExcitation": ("", [MAP, (1, 1, 4, 8), (2, 1, 5, 6)], [MAP]),
    "HardMining": ("hard_mining_param { num_image: 1 num_roi_per_image: 2 }", [(3, 1, 1, 1), (3, 8, 5, 6), (3, 5)],
                   [(2, 8, 5, 6), (2, 5, 1, 1)]),
    "OftenMtcnnClassBridge": ("", [(4, 2), (4, 1)], [(4, 2), (4,)]),
    "OftenMtcnnSoftmaxLoss": ("", [(4, 2), (4,)], [(), (4, 2)]),
    "OftenMtcnnEuclideanLoss": ("", [(4, 4), (4, 4), (4,)], [()]),
    "OftenMtcnnLandMarkLoss": ("", [(4, 10), (4, 10), (4,)], [()]),
    "OftenMtcnnAccuracy": ("", [(4, 2), (4,)], [()]),
    "BBTXTLoss": ("accumulator_loss_param { radius: 2 }", [(2, 20, 5), (2, 5, 5, 6)], [()]),
    "BB3TXTLoss": ("accumulator_loss_param { radius: 2 }", [(2, 20, 12), MAP], [()]),
    "BeamSearchNode": ("beam_search_param { beam_size: 2 }", [(4, 1), (4, 3), (4, 9), (4, 6)],
                       [(4, 1), (4, 4), (4, 1), (4, 6)]),
    "BeamSearch": ("beam_search_param { beam_size: 5 }", [(2, 7), (2, 8, 3)],
                   [(2, 1, 5, 20), (2, 1, 5), (2, 1, 5, 20)]),
    "RandCat": ("rand_cat_param { num_output: 7 }", [MAP, (2, 3, 5, 6), (2, 1, 5, 6), (2, 3, 5, 6)],
                [(14, 11), (14, 3)]),
    "RandCatConv": ("rand_cat_conv_param { rand_selection: false pad_factor: 1 pooling_factor: [1, 2] }",
                    [MAP, (2, 3, 3, 3), (2, 1, 5, 6), (2, 3, 5, 6)], [(24, 11), (24, 3)]),
    "GatingInnerProduct": ("inner_product_param { num_output: 4 }", [(3, 8), (3, 2), (3,), (3,)], [(3, 4)]),
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
    ("DeformablePSROIPooling", "deformable_psroi_pooling_param { spatial_scale: 1 output_dim: 2 group_size: 2 }",
     [MAP, REGIONS], 1, "needs offsets as its third bottom, and part_size; or no_trans: true"),
    ("GRN", "grn_param { bias: -1 }", [MAP], 1, "bias must not be negative, but is -1"),
    ("ScaleFilter", "scale_filter_param { min_scale: 2 max_scale: 1 }", [MAP], 1, "max_scale above min_scale"),
])
def test_says_what_a_layer_needs(kind: str, text: str, bottoms: list, tops: int, words: str, tmp_path: Path):
    with pytest.raises((LayerError, NetError), match=words):
        load_net(network(kind, text, bottoms, tops, tmp_path / "net.prototxt"), phase="TRAIN")


def python_network(name: str, text: str, bottoms: list[tuple[int, ...]], tops: int, path: Path) -> Path:
    module, layer = name.rsplit(".", 1)
    return network("Python", f'python_param {{ module: "{module}" layer: "{layer}" param_str: "{text}" }}', bottoms,
                   tops, path)


BOXES, IMAGE, ANCHORS = (2, 5), (1, 3), [(1, 1, 12, 6), *[(1, 8, 6, 6)] * 3]
PYTHON = {
    "scst_layers.SCSTLayer": ("", [(2, 1), (2, 1, 5, 20)], [*[(10, 20)] * 3, (1,)]),
    "roi_data_layer.layer.ASDNPretrainLabelLayer": ("", [MAP, (2,), BOXES], [MAP, (1,), BOXES]),
    "roi_data_layer.layer.ASDNPretrainDataLayer": ("{'drop_size': 2, 'drop_stride': 2}", [MAP], [MAP, MAP]),
    "roi_data_layer.layer.ASDNDataLayer": ("{'channels': 4}", [(2, 1, 5, 6), (2,)], [(2, 1, 5, 6), (2, 4, 5, 6)]),
    "roi_data_layer.layer.ASDNLossLayer": ("{'num_classes': 4}", [MAP, MAP, (2, 4), (2, 4), (2,), BOXES, MAP], [(1,)]),
    "roi_data_layer.layer.ASDNPretrainLossLayer": ("{'num_classes': 4}", [MAP, MAP, (2, 4), (2,), BOXES, MAP], [(1,)]),
    "sampling_layers.RandomSamplingLayer": ("{'num': 6, 'output_size': 4}", [MAP, (2, 1, 5, 6)],
                                            [(6, 8, 4, 4), (6, 1)]),
    "sampling_layers.GraphToTripletLayer": ("", [(4, 6), (4, 1)], [(4, 6)] * 3),
    "tripletsample_layer.TripletSampleLayer": ("", [(4, 6), (4,)], [(4, 6)] * 3),
    "projection_layer_CSPN.SimplexProjectionLayer": ("", [MAP, MAP, ONE], [MAP]),
    "regionlosslayer.RegionLossLayer": ("", [MAP, BOXES], [(1,)]),
    "alphaPredictionLoss.AlphaPredictionLossLayer": ("", [MAP, MAP], [(1,)]),
    "pythonLayer.cls_Layer": ("", [(4, 2, 1, 1), (4,)], [(4, 2), (4, 1)]),
    "pythonLayer.cls_Layer_fc": ("", [(4, 2), (4,)], [(4, 2, 1, 1), (4, 1)]),
    "balance_label_layer.LabelBalanceLayer": ("", [MAP, MAP, (2, 1, 5, 6)], [MAP]),
    "sub_sample_layer.SubSampleLayer": ("", [(1, 8, 30, 30), (1, 1, 30, 30)], [(20, 16, 3, 3), (20, 1)]),
    "sub_sample_layer.SubPointLayer": ("", [(1, 8, 30, 30), (1, 1, 30, 30)], [(180, 16, 1, 1), (180, 1)]),
    "roi_data_layer.inspect_layer.InspectLayer": ("{'string': 'x'}", [MAP], [MAP]),
    "roi_data_layer.debug_layer.RoIDataLayer": ("{'num_blobs': 2}", [MAP, ONE], []),
    "roi_data_layer.transpose_layer.RoIDataLayer": ("{'order': '0,2,3,1'}", [MAP], [(2, 5, 6, 8)]),
    "roi_data_layer.rfcn_anno_layer_new.RoIDataLayer": (
        "{'num_classes': 4}", [MAP, BOXES, MAP],
        [(3, 2), (3, 64, 9, 49), *[(3, 192)] * 3, *[(3, 16, 3, 1)] * 3, (3, 64), (576, 2)]),
    "SSH.layers.anchor_target_layer.AnchorTargetLayer": ("{'scales': [1, 2], 'ratios': [1]}",
                                                         [(1, 4, 6, 6), BOXES, IMAGE], ANCHORS),
    "lib.layers.multi_layer_anchor_layer.MultiLayerAnchorLayer": (
        "{'source': [0, 0, 1], 'ratios': [1]}", [(1, 4, 6, 6), (1, 2, 3, 3), BOXES, IMAGE, (1, 3, 9, 9), (1,)],
        [*ANCHORS, (1, 1, 3, 3), *[(1, 4, 3, 3)] * 3]),
    "rpn.label_target_layer.LabelTargetLayer": ("", [(3,)], [(1,)]),
    "rpn.box_target_layer.BoxTargetLayer": ("", [(3,), (3,), (3, 5), (2, 4)], [(1, 4)] * 3),
    "rpn.proposal_layer.ProposalLayer": ("'feat_stride': 16", [(1, 18, 6, 6), (1, 36, 6, 6), IMAGE, (2, 6)],
                                         [(1, 5), (1,), (1,)]),
    "rpn.proposal_target_layer.ProposalTargetLayer": (
        "'num_classes': 3", [BOXES, BOXES, IMAGE, (1,), (1, 2, 9, 9)],
        [(1, 5), (1, 1), *[(1, 12)] * 3, (1, 244, 244), (1, 5)]),
    "rpn.pred_to_proposal_layer.PredToProposalLayer": ("", [BOXES, (2, 12), (2, 3), IMAGE],
                                                       [(1, 5), (1, 1), (1, 1), (1, 5)]),
    "data.boxSelectionLayerMP.BoxSelectionLayer": ("", [(5, 1, 1, 1)], [(1,), (1, 40, 40), (1, 10, 10), (1,), (1,)]),
    "rpn.proposal_fg_disHW_target_layer.ProposalFgDisHWTargetLayer": (
        "'num_classes': 2", [BOXES, BOXES, (2, 33)],
        [(1, k, 1, 1) for k in (5, 1, 8, 8, 8, 16, 16, 16, 16, 5)]),
}


@pytest.mark.parametrize("name", PYTHON)
def test_a_python_layer_has_its_shapes_and_refuses_to_run(name: str, tmp_path: Path):
    text, bottoms, tops = PYTHON[name]
    net = load_net(python_network(name, text, bottoms, len(tops), tmp_path / "net.prototxt"), phase="TRAIN")
    assert list(net.steps[-1].top_shapes) == tops
    with pytest.raises(LayerError, match="its shape is known, its numbers are not computed here"):
        net.steps[-1].layer.forward()


@pytest.mark.parametrize(("name", "text", "bottoms", "tops", "words"), [
    ("sampling_layers.RandomSamplingLayer", "{'num': 5, 'output_size': 4}", [MAP, MAP], 2, "num is 5 for 2 images"),
    ("roi_data_layer.transpose_layer.RoIDataLayer", "{'order': '0,1'}", [MAP], 1, "'order': the 4 axes' numbers"),
    ("sub_sample_layer.SubSampleLayer", "", [MAP, MAP], 2, "takes one image at a time, not 2"),
    ("SSH.layers.anchor_target_layer.AnchorTargetLayer", "{'scales': 1}", [MAP, BOXES, IMAGE], 4, "a list of numbers"),
    ("lib.layers.multi_layer_anchor_layer.MultiLayerAnchorLayer", "{'source': [0, 1]}", [MAP] * 5, 8,
     "needs 6 bottoms, 2 maps and 4 more; it has 5"),
])
def test_says_what_a_python_layer_needs(name: str, text: str, bottoms: list, tops: int, words: str, tmp_path: Path):
    path = python_network(name, text, bottoms, tops, tmp_path / "net.prototxt")
    with pytest.raises((LayerError, NetError), match=words):
        load_net(path, phase="TRAIN")


def test_a_convolution_with_a_map_of_dilations_has_a_shape_alone(tmp_path: Path):
    path = network("Convolution", "convolution_param { num_output: 4 kernel_size: 3 pad: 2 dilation: 2 }",
                   [MAP, (2, 1, 5, 6)], 1, tmp_path / "net.prototxt")
    net = load_net(path)
    assert net.steps[-1].top_shapes == ((2, 4, 5, 6),)
    with pytest.raises(LayerError, match="its shape is known"):
        net.steps[-1].layer.forward()
