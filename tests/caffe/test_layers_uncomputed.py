"""Layers of forks that have shapes and refuse to run: the shapes that the forks' Reshape gives."""

from pathlib import Path

import pytest

from rmpe_legacy import load_net
from rmpe_legacy.errors import LayerError, NetError

MAP, REGIONS, ONE = (2, 8, 5, 6), (3, 5), (2, 1, 1, 1)
SPLIT = [ONE, (3, 2, 1, 1), (3, 1, 1, 1), *[(3, 8, 1, 1)] * 3]
TARGETS = "proposal_target_param { cls_num: 4 batch_size: 7 bbox_mean: 0 bbox_std: 1 }"
OCTREE, NODES = "octree_param { curr_depth: 4 }", (1, 5, 16, 1)
SHAPES = {
    "Warping": ("", [MAP, (2, 1, 5, 6), (2, 1, 5, 6)], [MAP]),
    "MultiBoxFocalLoss": ("focal_loss_param { gamma: 1 } multibox_loss_param { num_classes: 2 }",
                          [(1, 8), (1, 4), (1, 2, 8), (1, 1, 1, 8)], [()]),
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
    "DenseCRF": ("", [MAP, ONE, (2, 3, 5, 6)], [MAP]),
    "RNDropout": ("rn_dropout_param { num_drop_blobs: 1 }", [MAP, MAP], [MAP, MAP]),
    "RotateROIPooling": ("rotate_pooling_param { pooled_h: 3 pooled_w: 4 }", [MAP, (3, 6), (1, 3)], [(3, 8, 3, 4)]),
    "WarpCTCLoss": ("", [(7, 2, 4), (2, 3)], [()]),
    "MultiSoftmaxLoss": ("", [MAP, (2, 1, 5, 6)], [()]),
    "AngleLoss": ("", [MAP, MAP], [()]),
    "LabelDropout": ("", [MAP, MAP], [MAP]),
    "MultiStageMeanfieldAU3": ("multi_stage_meanfield_au3_param { num_iterations: 2 }", [MAP] * 3, [MAP]),
    "SoftmaxWithLossW": ("", [MAP, (2, 1, 5, 6)], [(), MAP]),
    "ReadBlobFromFileIndexing": ("read_blob_from_file_indexing_param { num_to_read: 4 }", [(2, 1)], [(2, 4)]),
    "GenUnifiedDataAndLabel": ("transform_param { crop_size_x: 8 crop_size_y: 6 num_parts: 16 }", [(2, 1)] * 4,
                               [(2, 3, 6, 8), (2, 32)]),
    "ScaleVector": ("", [(2, 32)], [(2, 32)]),
    "AddVectorByConstant": ("", [(2, 32)], [(2, 32)]),
    "DeepHumanModelConvert2D": ("", [(2, 64)], [(2, 32)]),
    "DeepHumanModelConvert3D": ("", [(2, 48)], [(2, 96)]),
    "DeepHumanModelConvertDepth": ("", [(2, 48), (2, 48)], [(2, 16)]),
    "DeepHumanModelH36MGenAug3D": ("", [(2, 32)], [(2, 48)]),
    "DeepHumanModelH36MGenPredMono3D": ("", [(2, 32)], [(2, 48)]),
    "DeepHumanModelH36MChaGenJointFrXYZHeatmap": ("", [(2, 512, 8, 8)], [(2, 48)]),
    "GenHeatmapAllChannels": ("gen_heatmap_all_channels_param { gen_size: 8 }", [(2, 32)], [(2, 16, 8, 8)]),
    "DeepHumanModelGen3DHeatmapInMoreDetailV3": (
        "deep_human_model_gen_3d_heatmap_in_more_detail_v3_param { depth_dims: 2 map_size: 8 }", [(2, 16), (2, 32)],
        [(2, 32, 8, 8)]),
    "DeepHumanModelSoftmax3DHM": ("deep_human_model_softmax_3d_hm_param { depth_dims: 2 }", [(2, 32, 8, 8)],
                                  [(2, 32, 8, 8)]),
    "DeepHumanModelNormalizationResponseV0": ("", [(2, 16, 8, 8)], [(2, 16, 8, 8)]),
    "DeepHumanModelNumericalCoordinateRegression": ("", [(2, 16, 8, 8)], [(2, 32)]),
    "DeepHumanModelArgmaxHM": ("", [(2, 16, 8, 8)], [(2, 32)]),
    "DeepHumanModelIntegralVector": ("", [(2, 8)], [(2, 1)]),
    "DeepHumanModelIntegralX": ("", [MAP], [(2, 6)]),
    "DeepHumanModelIntegralY": ("", [MAP], [(2, 5)]),
    "DeepHumanModelIntegralZ": ("", [MAP], [(2, 8)]),
    "MergeData": ("", [(2, 3, 5, 6)] * 4, [(2, 3, 5, 6), (2, 3, 5, 6), (2, 1)]),
    "MulRGB": ("", [(2, 3, 5, 6)], [(2, 3, 5, 6)]),
    "OutputBlob": ("", [MAP], []),
    "DeepHumanModelOutputJointOnSkeletonMapH36M": ("", [MAP] * 4, []),
    "Joint3DSquareRootLoss": ("", [(2, 48)] * 2, [()]),
    "JSRegularizationLoss": ("", [MAP, MAP], [()]),
    "AdaptiveWeightEucLoss": ("", [MAP, MAP], [()]),
    "SoftmaxWithCrossEntropyLoss": ("", [(3, 8), (3, 8)], [(), (3, 8)]),
    "MultiChannelSigmoidCrossEntropyLoss": ("", [MAP, (2, 1, 5, 6)], [()]),
    "MultiChannelReweightedSigmoidCrossEntropyLoss": ("", [MAP, (2, 1, 5, 6)], [()]),
    "JSDLoss": ("", [(3, 8), (3, 8)], [()]),
    "RSJSDLoss": ("", [(3, 8), (3, 8)], [()]),
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
    "OctreeProperty": ("octree_param { curr_depth: 4 signal_channel: 2 content_flag: 'Label, split' }", [],
                       [(1, 2, 8, 1)] * 2),
    "OctreeConv": (f"{OCTREE} convolution_param {{ num_output: 6 kernel_size: 3 stride: 2 }}", [NODES], [(1, 6, 8, 1)]),
    "OctreeDeconv": (f"{OCTREE} convolution_param {{ num_output: 6 kernel_size: [3, 2, 1] }}", [NODES],
                     [(1, 6, 8, 1)]),
    "OctreePooling": ("octree_param { curr_depth: 2 }", [NODES], [(1, 5, 8, 1), (1, 5, 2, 1)]),
    "OctreeUnpooling": (OCTREE, [NODES, (1, 5, 2, 1)], [(1, 5, 8, 1)]),
    "OctreeTile": (OCTREE, [NODES], [(1, 5, 8, 1)]),
    "Octree2FullVoxel": ("octree_param { curr_depth: 2 batch_size: 3 }", [NODES], [(3, 5, 4, 4, 4)]),
    "OctreeMask": ("octree_param { mask: 1 }", [NODES, (1, 2, 16, 1), (16,)], [(1, 5, 8, 1), (1, 2, 8, 1)]),
    "OctreeZeroize": ("octree_param { mask: 1 }", [NODES, (1, 1, 16, 1)], [NODES]),
    "OctreeGrow": ("octree_param { curr_depth: 4 full_octree: true batch_size: 3 }", [], [(1,)]),
    "OctreeSetFeature": (OCTREE, [(1,), NODES], [(1,)]),
    "OctreeUpdateLabel": ("octree_param { curr_depth: 4 mask: 1 }", [(1,), NODES], [(1,)]),
    "BBTXTLoss": ("accumulator_loss_param { radius: 2 }", [(2, 20, 5), (2, 5, 5, 6)], [()]),
    "BB3TXTLoss": ("accumulator_loss_param { radius: 2 }", [(2, 20, 12), MAP], [()]),
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
    ("OctreeConv", "convolution_param { num_output: 6 kernel_size: 3 }", [NODES], 1, "needs curr_depth"),
    ("OctreeConv", f"{OCTREE} convolution_param {{ num_output: 6 kernel_size: 4 }}", [NODES], 1, "of 1 to 3"),
    ("OctreeProperty", OCTREE, [], 1, "asks for 2 tops, but it has 1"),
    ("Octree2FullVoxel", "octree_param { curr_depth: 11 batch_size: 1 }", [NODES], 1, "curr_depth up to 10"),
    ("OctreeMask", OCTREE, [NODES, (16,)], 1, "needs a mask, and a top for each bottom but the last"),
    ("EuclideanWeightedLoss", "", [(3, 8), (3, 7)], 1, "needs predictions and targets of one size"),
    ("SigmoidCrossEntropyLossWeighted", "", [(3, 8), (3, 8), (3,)], 1, "must have the same number of values"),
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
    "InitLandmark.InitLandmark": ("{'initlandmarks': [[28.0, 41.5]]}", [(2, 136)], [(2, 136)]),
    "SumOfSquaredLossLayer.SumOfSquaredLossLayer": ("", [(2, 136), (2, 136)], [(1,)]),
    "TransformParamsLayer.TransformParamsLayer": ("", [(2, 136)], [(1, 6)]),
    "input_shifting_layer.InputShiftingLayer": ("{'tx': 1.5, 'ty': 0}", [MAP], [MAP]),
    "warping_layer.WarpingLayer": ("", [MAP, (2, 2, 5, 6)], [MAP]),
    "visualization_layer.VisualizationLayer": ("{'path': '.', 'name': 'x', 'mult': 2}", [MAP], [(1,)]),
    "weight_sig_test.WeightedLayer": ("", [(1, 21, 65, 65), (1, 21)], [(1, 21, 65, 65)]),
    "digits_python_layers.ComputeH": ("{'n_classes': 13}", [(2, 1, 5, 6)], [(1, 1, 13, 13)]),
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
    "ron_layer.anchor_target_layer.AnchorTargetLayer": ("", [(2, 20, 6, 6), BOXES, IMAGE],
                                                        [(2, 1, 60, 6), *[(2, 40, 6, 6)] * 3]),
    "ron_layer.det_target_layer.DetTargetLayer": ("", [(2, 20, 6, 6), BOXES, IMAGE], [(2, 1, 60, 6)]),
    "ron_layer.det_layer.DetLayer": ("'stride_scale_numcls': 64,7,21", [(1, 20, 6, 6), MAP, (1, 40, 6, 6)],
                                     [(1, 360, 4), (1, 360, 21)]),
    "src.MyLossLayer.netloss_live.MyLossLayer": ("", [(48, 1), (48,)], [(1,)]),
    "python.NormlizedMSE.NormlizedMSE": ("", [(4, 10)] * 2, [(1,)]),
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
    "pyloss.EuclideanLossLayer": ("", [MAP, (2, 2, 5, 6), (2, 1, 5, 6)], [(2,)]),
    "python_layers.py_generate_roi_layer.PyGenerateROILayer": ("{'joint_idx': 1}", [(2, 6)], [(2, 5)]),
    "data_switch.DataSwitchLayer": ("", [(2, 3, 16, 112, 112)] * 2, [(2, 3, 16, 112, 112)] * 2),
    "label_split.LabelSplitLayer": ("", [(3,)], [(3, 1)] * 2),
    "label_parse.LabelParseLayer": ("Scene", [(3, 1)], [(3, 1)]),
    "cyclic_loss.CyclicLossLayer": ("", [(3, 8)] * 4, [(1,)]),
    "mvn.MVNLayer": ("", [(3, 8)], [(3, 8)]),
    "save_features.SaveFeaturesLayer": ("10000", [(3, 8)] * 2, []),
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
    ("python_layers.py_generate_roi_layer.PyGenerateROILayer", "{'joint_idx': 2}", [(2, 6)], 1, "one of 2 joints"),
    ("data_switch.DataSwitchLayer", "", [(2, 3), (2, 4)], 2, "takes two blobs of one size"),
    ("ron_layer.det_layer.DetLayer", "'stride_scale_numcls': 64,7", [(1, 20, 6, 6), MAP, MAP], 2, "three whole"),
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


def test_images_and_maps_of_saliency_have_the_size_that_param_str_says(tmp_path: Path):
    text = "{'resize_size': [12, 10], 'batch_size': 5, 'test_batch_size': 2, 'split': 'test'}"
    path = python_network("read_data.input_layer", text, [], 2, tmp_path / "net.prototxt")
    assert load_net(path).steps[-1].top_shapes == ((2, 3, 12, 10), (2, 1, 12, 10))
    path = python_network("read_data.input_layer", "{'test_batch_size': 2}", [], 2, tmp_path / "net.prototxt")
    with pytest.raises((LayerError, NetError), match="needs resize_size: the height and width of its images"):
        load_net(path)


DATA = """layer {{ name: "d" type: "{}" {} window_data_param {{ source: "none.txt" batch_size: 2 }}
  transform_param {{ crop_size: 12 }} }}"""


def test_windows_with_angles_and_with_keypoints_are_fed(tmp_path: Path):
    tops = " ".join(f'top: "y{i}"' for i in range(8))
    (tmp_path / "pose.prototxt").write_text(DATA.format("WindowPoseData", tops))
    assert load_net(tmp_path / "pose.prototxt").steps[0].top_shapes == ((2, 3, 12, 12), *[(2, 1, 1, 1)] * 7)
    (tmp_path / "points.prototxt").write_text(DATA.format("WindowMulticlassKeypointData",
                                                          'top: "x" top: "label" top: "filter"') + """
layer { name: "f" type: "Flatten" bottom: "x" top: "f" }
layer { name: "p" type: "Eltwise" bottom: "f" bottom: "filter" top: "p" eltwise_param { operation: PROD } }
layer { name: "l" type: "EuclideanWeightedLoss" bottom: "p" bottom: "label" top: "l" }""")
    with pytest.warns(UserWarning, match="its tops are assumed to be x 2 x 3 x 12 x 12, label 2 x 432"):
        net = load_net(tmp_path / "points.prototxt")
    assert [shape[:2] for shape in net.steps[0].top_shapes] == [(2, 3), (2, 432), (2, 432)]


def test_octrees_are_fed_and_the_smallest_depths_have_all_nodes(tmp_path: Path):
    (tmp_path / "net.prototxt").write_text("""
layer { name: "d" type: "OctreeDataBase" top: "x" top: "label" top: "octrees" data_param { batch_size: 3 }
  octree_param { curr_depth: 3 signal_channel: 4 } }
layer { name: "p" type: "OctreePooling" bottom: "x" top: "p" octree_param { curr_depth: 2 } }""")
    net = load_net(tmp_path / "net.prototxt")
    assert net.steps[0].top_shapes == ((1, 4, 8, 1), (3,), (1,))
    assert net.steps[-1].top_shapes == ((1, 4, 24, 1),)


@pytest.mark.parametrize("dialect", ["flownet2", "liteflownet", "pwc-net"])
def test_augmentation_in_each_dialect_that_has_it(dialect: str, tmp_path: Path):
    path = network("DataAugmentation", "augmentation_param { crop_width: 4 crop_height: 3 }", [MAP], 2,
                   tmp_path / "net.prototxt")
    assert load_net(path, phase="TRAIN", dialect=dialect).steps[-1].top_shapes == ((2, 8, 3, 4), (2, 42, 1, 1))
    path.write_text(path.read_text().replace("crop_width: 4", "crop_width: 40"))
    with pytest.raises(LayerError, match="its crop 3 x 40 is larger than its bottom"):
        load_net(path, phase="TRAIN", dialect=dialect)
