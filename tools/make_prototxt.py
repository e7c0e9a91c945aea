"""Writes the networks under prototxt/: python tools/make_prototxt.py

Each network is one function that reads like the network. The facts (sizes, names, order) are those of
examples/rmpe/ssd_pascal_MPII_COCO14VGG.py and python/caffe/model_libs.py of RMPE@5188c23, and of
train/src/models/{hg,spatial_transformer_with_theta}.lua of multi-human-pose@094e29b.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

JOINTS = 16  # of MPII
COCO_JOINTS = 17


class Enum(str):
    """A value written without quotes."""


class Prototxt:
    """Collects layers as text; every method adds one and returns its top, so that networks nest like formulas.

    fraction: how much of BatchNorm's statistics each iteration keeps, where it is not Caffe's 0.999. joints: how many
    heat maps a pose network has.
    """

    def __init__(self, name: str | None, comment: str, fraction: float | None = None, joints: int = JOINTS):
        self.parts = [f"# {comment}\n# Written by tools/make_prototxt.py.\n"]
        self.fraction, self.joints = fraction, joints
        self.field(name=name)

    @property
    def text(self) -> str:
        return "".join(self.parts)

    def field(self, **fields: Any) -> None:
        self.parts.append("".join(f"{line}\n" for line in _fields(fields)))

    def layer(self, name: str, type: str, bottom: str | list[str] = (), top: str | list[str] | None = None,
              **fields: Any) -> str:
        bottoms = [bottom] if isinstance(bottom, str) else list(bottom)
        tops = [top or name] if not isinstance(top, list) else top
        head = " ".join(_fields({"name": name, "type": type, "bottom": bottoms, "top": tops}))
        self.parts.append("layer {\n" + "".join(f"  {line}\n" for line in [head, *_fields(fields)]) + "}\n")
        return tops[0] if tops else ""

    def relu(self, name: str, blob: str) -> str:
        return self.layer(name, "ReLU", blob, blob)


def _fields(fields: dict[str, Any]) -> list[str]:
    return [_one(name, item) for name, value in fields.items() if value is not None
            for item in (value if isinstance(value, list) else [value])]


def _one(name: str, value: Any) -> str:
    if isinstance(value, dict):
        return f"{name} {{ {' '.join(_fields(value))} }}"
    if isinstance(value, bool):
        return f"{name}: {str(value).lower()}"
    if isinstance(value, str) and not isinstance(value, Enum):
        return f'{name}: "{value}"'
    return f"{name}: {value}"


CONSTANT_0 = {"type": "constant", "value": 0}
LEARN = [{"lr_mult": 1, "decay_mult": 1}, {"lr_mult": 2, "decay_mult": 0}]
FROZEN = [{"lr_mult": 0, "decay_mult": 0}] * 2


# --- the person detector: SSD 500 x 500 on VGG16 ----------------------------------------------------------------

SSD_SIZE = 500
#             source layer     min_size max_size aspect ratios besides 1 (each also flipped)
SSD_HEADS = [("conv4_3_norm",  50.0,    None,    [2]),
             ("fc7",           100.0,   190.0,   [2, 3]),
             ("conv6_2",       190.0,   280.0,   [2, 3]),
             ("conv7_2",       280.0,   370.0,   [2, 3]),
             ("conv8_2",       370.0,   460.0,   [2, 3]),
             ("pool6",         460.0,   550.0,   [2, 3])]  # fmt: skip
SSD_CLASSES = 2  # background, person
LABEL_MAP = "data/MPII_COCO14/labelmap_voc.prototxt"
NAME_SIZE = "data/MPII_COCO14/val_name_size.txt"


def ssd_conv(net: Prototxt, name: str, bottom: str, num_output: int, kernel: int, param: list = LEARN, **more) -> str:
    return net.layer(name, "Convolution", bottom, param=param, convolution_param={
        "num_output": num_output, **more, "kernel_size": kernel,
        "weight_filler": {"type": "xavier"}, "bias_filler": CONSTANT_0})


def vgg16(net: Prototxt, data: str) -> None:
    """VGG16 without its classifier, fully convolutional: pool5 keeps the size, fc6 is dilated."""
    blob = data
    for stage, (depth, channels) in enumerate([(2, 64), (2, 128), (3, 256), (3, 512), (3, 512)], 1):
        for i in range(1, depth + 1):
            param = FROZEN if stage <= 2 else LEARN
            blob = ssd_conv(net, f"conv{stage}_{i}", blob, channels, 3, param, pad=1)
            net.relu(f"relu{stage}_{i}", blob)
        window = {"kernel_size": 2, "stride": 2} if stage < 5 else {"kernel_size": 3, "stride": 1, "pad": 1}
        blob = net.layer(f"pool{stage}", "Pooling", blob, pooling_param={"pool": Enum("MAX"), **window})
    net.relu("relu6", ssd_conv(net, "fc6", blob, 1024, 3, pad=6, dilation=6))
    net.relu("relu7", ssd_conv(net, "fc7", "fc6", 1024, 1))


def ssd_body(net: Prototxt, data: str) -> None:
    """VGG16 and the smaller and smaller grids behind it; then a head on each of six."""
    vgg16(net, data)
    blob = "fc7"
    for stage, narrow, wide in ((6, 256, 512), (7, 128, 256), (8, 128, 256)):
        for i, channels, kernel, pad, stride in ((1, narrow, 1, 0, 1), (2, wide, 3, 1, 2)):
            blob = ssd_conv(net, f"conv{stage}_{i}", blob, channels, kernel, pad=pad, stride=stride)
            net.relu(f"conv{stage}_{i}_relu", blob)
    net.layer("pool6", "Pooling", blob, pooling_param={"pool": Enum("AVE"), "global_pooling": True})
    net.layer("conv4_3_norm", "Normalize", "conv4_3", norm_param={
        "across_spatial": False, "scale_filler": {"type": "constant", "value": 20}, "channel_shared": False})
    ssd_heads(net, data, SSD_HEADS)


def ssd_heads(net: Prototxt, data: str, heads: list[tuple]) -> None:
    """On each source: what the boxes are, what is in them, and the boxes they start from; then all sources' in one."""
    for source, min_size, max_size, ratios in heads:
        priors = 1 + (max_size is not None) + 2 * len(ratios)
        for what, channels in (("loc", 4 * priors), ("conf", SSD_CLASSES * priors)):
            blob = ssd_conv(net, f"{source}_mbox_{what}", source, channels, 3, pad=1, stride=1)
            blob = net.layer(f"{blob}_perm", "Permute", blob, permute_param={"order": [0, 2, 3, 1]})
            net.layer(f"{source}_mbox_{what}_flat", "Flatten", blob, flatten_param={"axis": 1})
        net.layer(f"{source}_mbox_priorbox", "PriorBox", [source, data], prior_box_param={
            "min_size": min_size, "max_size": max_size, "aspect_ratio": ratios, "flip": True, "clip": True,
            "variance": [0.1, 0.1, 0.2, 0.2]})
    sources = [source for source, *_ in heads]
    for name, suffix, axis in (("loc", "loc_flat", 1), ("conf", "conf_flat", 1), ("priorbox", "priorbox", 2)):
        net.layer(f"mbox_{name}", "Concat", [f"{s}_mbox_{suffix}" for s in sources], concat_param={"axis": axis})


def ssd_output(net: Prototxt, save: dict | None) -> None:
    """Scores by softmax, then boxes above 0.01 after non-maximum suppression at 0.45."""
    net.layer("mbox_conf_reshape", "Reshape", "mbox_conf",
              reshape_param={"shape": {"dim": [0, -1, SSD_CLASSES]}})
    net.layer("mbox_conf_softmax", "Softmax", "mbox_conf_reshape", softmax_param={"axis": 2})
    net.layer("mbox_conf_flatten", "Flatten", "mbox_conf_softmax", flatten_param={"axis": 1})
    net.layer("detection_out", "DetectionOutput", ["mbox_loc", "mbox_conf_flatten", "mbox_priorbox"],
              include={"phase": Enum("TEST")}, detection_output_param={
                  "num_classes": SSD_CLASSES, "share_location": True, "background_label_id": 0,
                  "nms_param": {"nms_threshold": 0.45, "top_k": 400}, "save_output_param": save,
                  "code_type": Enum("CENTER_SIZE"), "keep_top_k": 200, "confidence_threshold": 0.01})


def ssd_loss(net: Prototxt, loc_weight: float = 1.0) -> None:
    net.layer("mbox_loss", "MultiBoxLoss", ["mbox_loc", "mbox_conf", "mbox_priorbox", "label"],
              include={"phase": Enum("TRAIN")}, propagate_down=[True, True, False, False],
              loss_param={"normalization": Enum("VALID")}, multibox_loss_param={
                  "loc_loss_type": Enum("SMOOTH_L1"), "conf_loss_type": Enum("SOFTMAX"), "loc_weight": loc_weight,
                  "num_classes": SSD_CLASSES, "share_location": True, "match_type": Enum("PER_PREDICTION"),
                  "overlap_threshold": 0.5, "use_prior_for_matching": True, "background_label_id": 0,
                  "use_difficult_gt": True, "do_neg_mining": True, "neg_pos_ratio": 3.0, "neg_overlap": 0.5,
                  "code_type": Enum("CENTER_SIZE")})


def ssd_data(net: Prototxt, phase: str, source: str, batch_size: int, transform: dict, annotated: dict) -> None:
    resize = {"prob": 1, "resize_mode": Enum("WARP"), "height": SSD_SIZE, "width": SSD_SIZE}
    names = ["LINEAR", "AREA", "NEAREST", "CUBIC", "LANCZOS4"] if phase == "TRAIN" else ["LINEAR"]
    net.layer("data", "AnnotatedData", top=["data", "label"], include={"phase": Enum(phase)},
              transform_param={**transform, "mean_value": [104, 117, 123], "force_color": True,
                               "resize_param": {**resize, "interp_mode": [Enum(n) for n in names]}},
              data_param={"source": source, "batch_size": batch_size, "backend": Enum("LMDB")},
              annotated_data_param=annotated)


def ssd_samplers() -> list[dict]:
    """The whole image, then patches that overlap a person by at least (the last: at most) so much."""
    scale = {"min_scale": 0.3, "max_scale": 1.0, "min_aspect_ratio": 0.5, "max_aspect_ratio": 2.0}
    bounds = [{"min_jaccard_overlap": v} for v in (0.1, 0.3, 0.5, 0.7, 0.9)] + [{"max_jaccard_overlap": 1.0}]
    whole = {"max_sample": 1, "max_trials": 1}
    return [whole] + [{"sampler": scale, "sample_constraint": b, "max_sample": 1, "max_trials": 50} for b in bounds]


def ssd500_train() -> Prototxt:
    net = Prototxt("VGG_MPII_COCO14_SSD_500x500_train", "RMPE's person detector, training")
    ssd_data(net, "TRAIN", "examples/MPII_COCO14/MPII_COCO14_train_lmdb", 8,
             {"mirror": True, "emit_constraint": {"emit_type": Enum("CENTER")}},
             {"label_map_file": LABEL_MAP, "batch_sampler": ssd_samplers()})
    ssd_body(net, "data")
    ssd_loss(net)
    return net


def ssd500_test() -> Prototxt:
    net = Prototxt("VGG_MPII_COCO14_SSD_500x500_test", "RMPE's person detector, evaluation while training")
    ssd_data(net, "TEST", "examples/MPII_COCO14/MPII_COCO14_val_lmdb", 1, {},
             {"label_map_file": LABEL_MAP, "batch_sampler": [{}]})
    ssd_body(net, "data")
    ssd_output(net, {"output_directory": "results/MPII_COCO14/SSD_500x500/Main",
                     "output_name_prefix": "comp4_det_test_", "output_format": "VOC", "label_map_file": LABEL_MAP,
                     "name_size_file": NAME_SIZE, "num_test_image": 1000})
    net.layer("detection_eval", "DetectionEvaluate", ["detection_out", "label"], include={"phase": Enum("TEST")},
              detection_evaluate_param={"num_classes": SSD_CLASSES, "background_label_id": 0,
                                        "overlap_threshold": 0.5, "evaluate_difficult_gt": False,
                                        "name_size_file": NAME_SIZE})
    return net


def ssd500_solver() -> Prototxt:
    """Of 32 images per step. The script divides them among four GPUs; in one process, four batches add up instead."""
    solver = Prototxt(None, "RMPE's person detector, how it is trained; run from the repository's root")
    solver.field(
        train_net="prototxt/ssd500/train.prototxt", test_net="prototxt/ssd500/test.prototxt", test_iter=1000,
        test_interval=1000, base_lr=0.001, display=10, max_iter=60000, lr_policy="step", gamma=0.1, momentum=0.9,
        weight_decay=0.0005, stepsize=40000, snapshot=10000, snapshot_prefix="VGG_MPII_COCO14_SSD_500x500",
        solver_mode=Enum("GPU"), device_id=0, snapshot_after_train=True, test_initialization=False, average_loss=10,
        iter_size=4, type="SGD", eval_type="detection", ap_version="11point")
    return solver


def ssd500_deploy() -> Prototxt:
    net = Prototxt("VGG_MPII_COCO14_SSD_500x500_deploy", "RMPE's person detector: image -> boxes with scores")
    net.field(input="data", input_shape={"dim": [1, 3, SSD_SIZE, SSD_SIZE]})
    ssd_body(net, "data")
    ssd_output(net, None)
    return net


# --- the pose network: STN, stacked hourglass, SDTN --------------------------------------------------------------


def spatial_transformer(net: Prototxt, name: str, bottom: str, top: str, size: int,
                        propagate_down: list[bool] | None = None, **more: Any) -> str:
    return net.layer(name, "SpatialTransformer", [bottom, "theta"], top, propagate_down=propagate_down, st_param={
        "transform_type": "affine", "sampler_type": "bilinear", "output_H": size, "output_W": size, **more})


def heatmaps_to_joints(net: Prototxt, heatmaps: str, size: int = 64) -> None:
    """The heat maps back where the crop was, and each map's highest point: x, y, score."""
    read_joints(net, spatial_transformer(net, "destn", heatmaps, "heatmap_back", size, de_transform=True))


def read_joints(net: Prototxt, heatmaps: str) -> None:
    net.layer("prediction_heatmap", "PredictionHeatmap", heatmaps, prediction_heatmap_param={"num_joints": net.joints})


class FrozenBranch:
    """Adds layers to a network under names with a prefix; their weights do not change in training.

    settled: BatchNorm takes its stored statistics, as in deployment; without it, each batch's, which change them.
    """

    LEARNING: ClassVar = {"Convolution": 2, "BatchNorm": 3, "Scale": 2, "InnerProduct": 2}  # parameters of each type

    def __init__(self, net: Prototxt, prefix: str, settled: bool = False):
        self.net, self.prefix, self.settled = net, prefix, settled
        self.fraction, self.joints = net.fraction, net.joints

    def layer(self, name: str, type: str, bottom: str | list[str] = (), top: str | None = None, **fields: Any) -> str:
        in_place = top == bottom
        if count := self.LEARNING.get(type, 0):
            count -= fields.get("convolution_param", {}).get("bias_term") is False
            fields["param"] = [{"lr_mult": 0, "decay_mult": 0}] * count
        if type == "BatchNorm" and self.settled:
            fields["batch_norm_param"] = {"use_global_stats": True}
        return self.net.layer(self.prefix + name, type, bottom, top if in_place or top is None else self.prefix + top,
                              **fields)

    def relu(self, name: str, blob: str) -> str:
        return self.layer(name, "ReLU", blob, blob)


class LuaHourglass:
    """The authors' Torch7 network in Caffe's layers: hg.lua, Residual.lua, and the ResNet-18 that finds theta."""

    def __init__(self, net: Prototxt | FrozenBranch):
        self.net = net

    def conv(self, name: str, bottom: str, channels: int, kernel: int, stride: int = 1) -> str:
        return self.net.layer(name, "Convolution", bottom, convolution_param={
            "num_output": channels, "kernel_size": kernel, "stride": stride, "pad": kernel // 2, "bias_term": True,
            "weight_filler": {"type": "msra"}})

    def norm(self, name: str, bottom: str, top: str | None = None, relu: bool = True) -> str:
        """Torch's SpatialBatchNormalization, and ReLU."""
        top = self.net.layer(f"{name}_bn", "BatchNorm", bottom, top or bottom,
                             batch_norm_param={"eps": 1e-5, "moving_average_fraction": self.net.fraction})
        self.net.layer(f"{name}_sc", "Scale", top, top, scale_param={"bias_term": True})
        return self.net.relu(f"{name}_relu", top) if relu else top

    def localisation(self, data: str) -> str:
        """ResNet-18 with basic blocks -> theta (N, 6)."""
        blob = self.conv("loc_conv1", data, 64, 7, 2)
        self.norm("loc_1", blob)
        blob = self.net.layer("loc_pool1", "Pooling", blob, pooling_param={
            "pool": Enum("MAX"), "kernel_size": 3, "stride": 2, "pad": 1})
        for stage, channels in enumerate((64, 128, 256, 512), 1):
            for i in (1, 2):
                blob = self.basic_block(f"loc_{stage}_{i}", blob, channels, stride=2 if i == 1 < stage else 1)
        blob = self.net.layer("loc_avg", "Pooling", blob, pooling_param={"pool": Enum("AVE"), "global_pooling": True})
        return self.net.layer("theta", "InnerProduct", blob, inner_product_param={"num_output": 6})

    def basic_block(self, name: str, bottom: str, channels: int, stride: int) -> str:
        blob = self.norm(f"{name}_1", self.conv(f"{name}_c1", bottom, channels, 3, stride))
        blob = self.norm(f"{name}_2", self.conv(f"{name}_c2", blob, channels, 3), relu=False)
        skip = self.conv(f"{name}_sk", bottom, channels, 1, stride) if stride == 2 else bottom
        return self.net.relu(f"{name}_relu", self.net.layer(name, "Eltwise", [blob, skip]))

    def residual(self, name: str, bottom: str, channels: int, widen: bool = False) -> str:
        """Pre-activation bottleneck, beside the identity or a 1x1 convolution where the channels change."""
        blob = self.norm(f"{name}_a", bottom, f"{name}_a")
        blob = self.norm(f"{name}_b", self.conv(f"{name}_conv1", blob, channels // 2, 1))
        blob = self.norm(f"{name}_c", self.conv(f"{name}_conv2", blob, channels // 2, 3))
        blob = self.conv(f"{name}_conv3", blob, channels, 1)
        skip = self.conv(f"{name}_skip", bottom, channels, 1) if widen else bottom
        return self.net.layer(name, "Eltwise", [blob, skip], eltwise_param={"operation": Enum("SUM")})

    def hourglass(self, name: str, bottom: str, depth: int) -> str:
        up1 = self.residual(f"{name}_up1", bottom, 256)
        blob = self.net.layer(f"{name}_pool", "Pooling", bottom, pooling_param={
            "pool": Enum("MAX"), "kernel_size": 2, "stride": 2})
        blob = self.residual(f"{name}_low1", blob, 256)
        deeper = self.hourglass(f"{name}_n", blob, depth - 1) if depth > 1 else self.residual(f"{name}_low2", blob, 256)
        blob = self.residual(f"{name}_low3", deeper, 256)
        up2 = upsample(self.net, f"{name}_up2", blob, 256, bias_term=False, pad=0)
        return self.net.layer(name, "Eltwise", [up1, up2])

    def stacks(self, image: str, count: int) -> list[str]:
        """-> each stack's heat maps (N, 16, 64, 64)."""
        outs = []
        blob = self.norm("cnv1", self.conv("cnv1", image, 64, 7, 2))                   # 128
        blob = self.residual("r1", blob, 128, widen=True)
        blob = self.net.layer("pool", "Pooling", blob, pooling_param={
            "pool": Enum("MAX"), "kernel_size": 2, "stride": 2})                       # 64
        blob = self.residual("r5", self.residual("r4", blob, 128), 256, widen=True)
        for i in range(1, count + 1):
            features = self.residual(f"ll{i}", self.hourglass(f"hg{i}", blob, 4), 256)
            features = self.norm(f"lin{i}", self.conv(f"lin{i}", features, 256, 1))
            outs.append(self.conv(f"out{i}", features, self.net.joints, 1))
            if i < count:
                back = [self.conv(f"ll{i}_", features, 256, 1), self.conv(f"out{i}_", outs[-1], 256, 1)]
                blob = self.net.layer(f"inter{i}", "Eltwise", [blob, *back])
        return outs


def upsample(net: Prototxt | FrozenBranch, name: str, bottom: str, channels: int, **more: Any) -> str:
    """Twice the size by repeating values, as a Deconvolution that does not learn."""
    return net.layer(name, "Deconvolution", bottom, param={"lr_mult": 0, "decay_mult": 0}, convolution_param={
        "num_output": channels, "group": channels, "kernel_size": 2, "stride": 2, **more,
        "weight_filler": {"type": "nearest"}})


def sppe_sstn() -> Prototxt:
    net = Prototxt("RMPE_2hg_sstn", "RMPE's pose network in the shape of the authors' Lua: ResNet-18 STN, 2-stack "
                   "hourglass, SDTN")
    net.layer("data", "Input", input_param={"shape": {"dim": [1, 3, 256, 256]}})
    lua = LuaHourglass(net)
    lua.localisation("data")
    image = spatial_transformer(net, "stn", "data", "img", 256, to_compute_dU=False)
    heatmaps_to_joints(net, lua.stacks(image, 2)[-1])
    return net


# --- RMPE's training: 2, 4 or 8 stacks; alone, with SSTN, and with the parallel SPPE ---------------------------------

TORCH_FRACTION = 0.9  # SpatialBatchNormalization's momentum is 0.1
PARALLEL_STACKS = 4  # opts.lua:35; a network of fewer stacks has no more of them in its parallel SPPE
BATCH = 5  # opts.lua:61
PARTS = ("", "_sstn", "_sstn_parallel")


def training_inputs(net: Prototxt, batch: int, crop: int, maps: int, centered: int | None) -> None:
    shapes = {"data": [3, crop, crop], "label": [net.joints, maps, maps]}
    if centered is not None:
        shapes["label_center"] = [net.joints, centered, centered]
    for name, dims in shapes.items():
        net.layer(name, "Input", top=name, input_param={"shape": {"dim": [batch, *dims]}})


def heatmap_loss(net: Prototxt, name: str, heatmaps: str, label: str, size: int) -> None:
    """nn.MSECriterion: the mean over all values, where EuclideanLoss halves the sum over all and divides by N."""
    net.layer(name, "EuclideanLoss", [heatmaps, label], loss_weight=2 / (net.joints * size * size))


def behind_sdtn(net: Prototxt, outs: list[str], size: int) -> list[str]:
    return [spatial_transformer(net, f"destn{i}", out, f"back{i}", size, de_transform=True)
            for i, out in enumerate(outs, 1)]


def sppe_train(stacks: int, parts: str, joints: int = JOINTS) -> Prototxt:
    net = Prototxt(f"RMPE_{stacks}hg{parts}_train", f"RMPE's pose network with {stacks} stacks{_DESCRIBED[parts]}, "
                   "training: rmpe train-pose feeds it", TORCH_FRACTION, joints)
    parallel = parts == "_sstn_parallel"
    training_inputs(net, BATCH, 256, 64, 64 if parallel else None)
    image, lua = "data", LuaHourglass(net)
    if parts:
        lua.localisation("data")
        image = spatial_transformer(net, "stn", "data", "img", 256, to_compute_dU=False)
    outs = lua.stacks(image, stacks)
    for i, out in enumerate(behind_sdtn(net, outs, 64) if parts else outs, 1):
        heatmap_loss(net, f"loss{i}", out, "label", 64)
    if parallel:
        other = LuaHourglass(FrozenBranch(net, "para_"))
        for i, out in enumerate(other.stacks(image, min(stacks, PARALLEL_STACKS)), 1):
            heatmap_loss(net, f"loss_center{i}", out, "label_center", 64)
    return net


_DESCRIBED = {"": "", "_sstn": ", STN and SDTN", "_sstn_parallel": ", STN, SDTN and parallel SPPE"}


def sppe_deploy(stacks: int, parts: str, joints: int = JOINTS) -> Prototxt:
    net = Prototxt(f"RMPE_{stacks}hg{parts}", f"RMPE's pose network with {stacks} stacks{_DESCRIBED[parts]}: person "
                   f"crop -> {joints} joints", joints=joints)
    net.layer("data", "Input", input_param={"shape": {"dim": [1, 3, 256, 256]}})
    lua = LuaHourglass(net)
    if not parts:
        heatmaps = lua.stacks("data", stacks)[-1]
        read_joints(net, heatmaps)
        return net
    lua.localisation("data")
    image = spatial_transformer(net, "stn", "data", "img", 256, to_compute_dU=False)
    heatmaps_to_joints(net, lua.stacks(image, stacks)[-1])
    return net


def pose_solver(folder: str, rate: float, iterations: int, snapshot: int, prefix: str) -> Prototxt:
    """RMSProp as optim.rmsprop computes it: alpha is rms_decay, epsilon is delta; no momentum, no weight decay."""
    solver = Prototxt(None, f"RMSProp with the authors' settings, for prototxt/{folder}. Start it from the "
                      "repository's folder.")
    solver.field(net=f"prototxt/{folder}", type="RMSProp", base_lr=rate, lr_policy="fixed", rms_decay=0.99, delta=1e-8,
                 max_iter=iterations, display=20, average_loss=20, snapshot=snapshot, snapshot_prefix=prefix)
    return solver


def sppe_solver(stacks: int, parts: str) -> Prototxt:
    """opts.lua:46-60: 20 epochs of 8000 iterations at 2.5e-4."""
    folder = f"sppe_{stacks}hg{parts}"
    return pose_solver(f"{folder}/train.prototxt", 2.5e-4, 160_000, 8000, folder)


class AffineHourglass:
    """The stacked hourglass and the SqueezeNet of the fork's model_libs.py, with EltwiseAffine behind BatchNorm."""

    NORM_PARAM = ({"lr_mult": 0, "decay_mult": 0},) * 3
    AFFINE_PARAM = ({"lr_mult": 1, "decay_mult": 0},) * 2

    def __init__(self, net: Prototxt):
        self.net = net

    def norm(self, bottom: str, bn: str, affine: str, top: str | None = None) -> str:
        top = self.net.layer(bn, "BatchNorm", bottom, top or bottom, param=list(self.NORM_PARAM),
                             batch_norm_param={"eps": 0.001})
        return self.net.layer(affine, "EltwiseAffine", top, top, param=list(self.AFFINE_PARAM),
                              eltwise_affine_param={"channel_shared": False})

    def conv(self, name: str, bottom: str, channels: int, kernel: int, pad: int = 0, stride: int = 1,
             filler: dict | None = None) -> str:
        return self.net.layer(name, "Convolution", bottom, param=LEARN, convolution_param={
            "num_output": channels, "kernel_size": kernel, "pad": pad, "stride": stride,
            "weight_filler": filler or {"type": "xavier"}, "bias_filler": CONSTANT_0})

    def conv_norm(self, name: str, bottom: str, channels: int, kernel: int, pad: int, stride: int,
                  bn: str, affine: str) -> str:
        """Convolution, BatchNorm, EltwiseAffine, ReLU, all in one blob."""
        blob = self.conv(name, bottom, channels, kernel, pad, stride, {"type": "gaussian", "std": 0.01})
        self.norm(blob, bn, affine)
        return self.net.relu(f"{name}_relu", blob)

    def residual(self, block: str, bottom: str, source: str, narrow: int, wide: int, widen: bool) -> str:
        """bottom: the blob; source: the layer it is named after in this block's first BatchNorm."""
        skip = self.conv(f"res{block}_branch1", bottom, wide, 1) if widen else bottom
        blob = self.norm(bottom, f"{source}_bn", f"{source}_bn_scale", f"{source}_bn")
        self.net.relu(f"{source}_bn_scale_relu", blob)
        for branch, kernel in (("branch2a", 1), ("branch2b", 3)):
            blob = self.conv_norm(f"res{block}_{branch}", blob, narrow, kernel, kernel // 2, 1,
                                  f"bn{block}_{branch}", f"scale{block}_{branch}")
        blob = self.conv(f"res{block}_branch2c", blob, wide, 1)
        return self.net.layer(f"res{block}", "Eltwise", [skip, blob])

    def hourglass(self, name: str, bottom: str, depth: int, channels: int, out: int) -> str:
        """channels: the bottom's; out: the top's."""
        blob, width = bottom, channels
        for part, wide in (("up1", 256), ("up2", 256), ("up4", out)):
            blob, width = self.residual(f"{name}_{part}", blob, blob, wide // 2, wide, width != wide), wide
        up = blob
        blob = self.net.layer(f"{name}_pool1", "Pooling", bottom, pooling_param={
            "pool": Enum("MAX"), "kernel_size": 2, "stride": 2})
        width = channels
        for part in ("low1", "low2", "low5"):
            blob, width = self.residual(f"{name}_{part}", blob, blob, 128, 256, width != 256), 256
        if depth > 1:
            blob = self.hourglass(f"{name}_low6", blob, depth - 1, 256, out)
        else:
            blob = self.residual(f"{name}_low6", blob, blob, out // 2, out, out != 256)
        blob = self.residual(f"{name}_low7", blob, blob, out // 2, out, False)
        return self.net.layer(name, "Eltwise", [up, upsample(self.net, f"{name}_Up5", blob, out, pad=0,
                                                             bias_term=False)])

    def stacks(self, image: str) -> str:
        """Two stacks -> heat maps (N, 16, 64, 64)."""
        blob = self.conv_norm("conv1_b", image, 64, 7, 3, 2, "bn_conv1_b", "scale_conv1_b")
        blob = self.residual("1", blob, blob, 64, 128, True)
        pool = self.net.layer("pool1", "Pooling", blob, pooling_param={
            "pool": Enum("MAX"), "kernel_size": 2, "stride": 2})
        blob = self.residual("4", pool, pool, 64, 128, False)
        blob = self.residual("5", blob, blob, 64, 128, False)
        blob = self.residual("6", blob, blob, 128, 256, True)
        blob = self.hourglass("hg1", blob, 4, 256, 512)
        blob = self.conv_norm("linear1", blob, 512, 1, 0, 1, "bn_linear1", "scale_linear1")
        linear2 = self.conv_norm("linear2", blob, 256, 1, 0, 1, "bn_linear2", "scale_linear2")
        back = self.conv("out1_", self.conv("out1", linear2, JOINTS, 1), 384, 1)
        blob = self.net.layer("concat1", "Concat", [linear2, pool], concat_param={"axis": 1})
        blob = self.net.layer("int1", "Eltwise", [self.conv("concat1_CN", blob, 384, 1), back])
        blob = self.hourglass("hg2", blob, 4, 384, 512)
        blob = self.conv_norm("linear3", blob, 512, 1, 0, 1, "bn_linear3", "scale_linear3")
        blob = self.conv_norm("linear4", blob, 512, 1, 0, 1, "bn_linear4", "scale_linear4")
        return self.conv("output", blob, JOINTS, 1)

    def localisation(self, data: str) -> str:
        """SqueezeNet, slightly changed, -> theta (N, 6); it begins as the identity."""
        blob = self.fire_conv("conv1", data, 64, 3, 0)
        blob = self.pool("pool1s", blob)
        for i, narrow, wide in ((2, 16, 64), (3, 16, 64), (4, 32, 128), (5, 32, 128), (6, 48, 192), (7, 48, 192),
                                (8, 64, 256), (9, 64, 256)):
            squeeze = self.fire_conv(f"fire{i}/squeeze1x1", blob, narrow, 1, 0)
            expand = [self.fire_conv(f"fire{i}/expand{k}x{k}", squeeze, wide, k, k // 2) for k in (1, 3)]
            blob = self.net.layer(f"fire{i}/concat", "Concat", expand, concat_param={"axis": 1})
            if i in (3, 5):
                blob = self.pool(f"pool{i}", blob)
        self.net.layer("drop9", "Dropout", blob, blob, dropout_param={"dropout_ratio": 0.5})
        blob = self.fire_conv("conv10", blob, 6, 1, 0)
        return self.net.layer("theta", "InnerProduct", blob, param={"lr_mult": 1, "decay_mult": 1},
                              inner_product_param={"num_output": 6, "weight_filler": CONSTANT_0, "bias_term": True,
                                                   "bias_filler": {"type": "file", "file": "bias_init.txt"}})

    def fire_conv(self, name: str, bottom: str, channels: int, kernel: int, pad: int) -> str:
        return self.conv_norm(name, bottom, channels, kernel, pad, 1, f"{name}_bn", f"{name}_scale")

    def pool(self, name: str, bottom: str) -> str:
        return self.net.layer(name, "Pooling", bottom, pooling_param={
            "pool": Enum("MAX"), "kernel_size": 3, "stride": 2})


def sppe_sstn_affine() -> Prototxt:
    net = Prototxt("SPPE_SSTN", "RMPE's pose network in the shape of the fork's model_libs.py: SqueezeNet STN, 2-stack "
                   "hourglass with EltwiseAffine, SDTN")
    net.layer("data", "Input", input_param={"shape": {"dim": [1, 3, 256, 256]}})
    fork = AffineHourglass(net)
    fork.localisation("data")
    image = spatial_transformer(net, "stn", "data", "img", 256, to_compute_dU=False)
    heatmaps_to_joints(net, fork.stacks(image))
    return net


# --- the demo's networks: small enough to train on a processor in an hour -----------------------------------------

DEMO_SSD_SIZE = 160
#              source    min_size max_size aspect ratios
DEMO_HEADS = [("conv3_2", 22.0,   37.0,    [2, 3]),
              ("conv4_2", 37.0,   65.0,    [2, 3]),
              ("conv5_2", 65.0,   100.0,   [2, 3]),
              ("conv6",   100.0,  142.0,   [2, 3])]  # fmt: skip
DEMO_CROP, DEMO_FRAME = 128, 96  # sides of the pose network's crops, and of what the STN makes of them
DEMO_CHANNELS = 48


def demo_conv(net: Prototxt, name: str, bottom: str, channels: int, kernel: int, stride: int = 1,
              filler: dict | None = None) -> str:
    return net.layer(name, "Convolution", bottom, param=LEARN, convolution_param={
        "num_output": channels, "kernel_size": kernel, "stride": stride, "pad": kernel // 2,
        "weight_filler": filler or {"type": "msra"}, "bias_filler": CONSTANT_0})


def demo_conv_norm(net: Prototxt, name: str, bottom: str, channels: int, kernel: int, stride: int = 1) -> str:
    """Convolution, BatchNorm, ReLU in one blob; no bias, which BatchNorm would take away again, and no Scale."""
    blob = net.layer(name, "Convolution", bottom, param=LEARN[:1], convolution_param={
        "num_output": channels, "kernel_size": kernel, "stride": stride, "pad": kernel // 2, "bias_term": False,
        "weight_filler": {"type": "msra"}})
    return demo_norm(net, name, blob, blob)


def demo_norm(net: Prototxt, name: str, bottom: str, top: str) -> str:
    fraction = None if net.fraction is None else {"moving_average_fraction": net.fraction}
    top = net.layer(f"{name}_bn", "BatchNorm", bottom, top, batch_norm_param=fraction)
    return net.relu(f"{name}_relu", top)


def demo_ssd_body(net: Prototxt) -> None:
    blob = net.layer("scaled", "Power", "data", power_param={"scale": 1 / 64})
    for name, channels, stride in (
            ("conv1", 16, 2), ("conv2_1", 32, 2), ("conv2_2", 32, 1), ("conv3_1", 64, 2), ("conv3_2", 64, 1),
            ("conv4_1", 96, 2), ("conv4_2", 96, 1), ("conv5_1", 128, 2), ("conv5_2", 128, 1), ("conv6", 128, 2)):
        blob = demo_conv_norm(net, name, blob, channels, 3, stride)
    ssd_heads(net, "data", DEMO_HEADS)


def demo_ssd_train() -> Prototxt:
    net = Prototxt("demo_detector_train", "The demo's person detector, training: tools/train_demo.py feeds it")
    net.layer("data", "Input", top="data", input_param={"shape": {"dim": [16, 3, DEMO_SSD_SIZE, DEMO_SSD_SIZE]}})
    net.layer("label", "Input", top="label", input_param={"shape": {"dim": [1, 1, 1, 8]}})
    demo_ssd_body(net)
    ssd_loss(net, loc_weight=2.0)  # a box that lacks the feet costs the pose more than one too many
    return net


def demo_ssd_deploy() -> Prototxt:
    net = Prototxt("demo_detector", "The demo's person detector: picture -> boxes with scores")
    net.layer("data", "Input", top="data", input_param={"shape": {"dim": [1, 3, DEMO_SSD_SIZE, DEMO_SSD_SIZE]}})
    demo_ssd_body(net)
    ssd_output(net, None)
    return net


class DemoHourglass:
    """LuaHourglass made small: three levels, 48 channels, BatchNorm without a Scale before each ReLU."""

    LOCALISATION = (16, 2), (32, 2), (32, 1), (64, 2), (64, 1), (64, 1)  # channels, stride

    def __init__(self, net: Prototxt | FrozenBranch):
        self.net = net

    def localisation(self, data: str) -> str:
        """-> theta (N, 6), from loc_maps (N, 16, 8, 8), a rough look at where each joint is."""
        blob = self.rough_look(data)
        blob = self.net.relu("loc_fc_relu", self.inner_product("loc_fc", blob, 64, {"type": "msra"}))
        return self.inner_product("theta", blob, 6, CONSTANT_0)

    def rough_look(self, data: str) -> str:
        """-> loc_maps (N, 16, 8, 8)."""
        blob = self.net.layer("loc_pool", "Pooling", data, pooling_param={
            "pool": Enum("AVE"), "kernel_size": 2, "stride": 2})
        for i, (channels, stride) in enumerate(self.LOCALISATION, 1):
            blob = demo_conv_norm(self.net, f"loc_conv{i}", blob, channels, 3, stride)
        return demo_conv(self.net, "loc_maps", blob, JOINTS, 1)

    def inner_product(self, name: str, bottom: str, num_output: int, filler: dict) -> str:
        return self.net.layer(name, "InnerProduct", bottom, param=LEARN, inner_product_param={
            "num_output": num_output, "weight_filler": filler, "bias_filler": CONSTANT_0})

    def residual(self, name: str, bottom: str) -> str:
        blob = demo_norm(self.net, f"{name}_pre", bottom, f"{name}_pre")
        blob = demo_conv(self.net, f"{name}_conv", blob, DEMO_CHANNELS, 3)
        return self.net.layer(name, "Eltwise", [blob, bottom])

    def hourglass(self, name: str, bottom: str, depth: int) -> str:
        up = self.residual(f"{name}_up1", bottom)
        blob = self.net.layer(f"{name}_pool", "Pooling", bottom, pooling_param={
            "pool": Enum("MAX"), "kernel_size": 2, "stride": 2})
        blob = self.residual(f"{name}_low1", blob)
        blob = self.hourglass(f"{name}_n", blob, depth - 1) if depth > 1 else self.residual(f"{name}_low2", blob)
        blob = self.residual(f"{name}_low3", blob)
        return self.net.layer(name, "Eltwise", [up, upsample(self.net, f"{name}_up2", blob, DEMO_CHANNELS,
                                                             bias_term=False, pad=0)])

    def stacks(self, image: str, count: int = 2) -> list[str]:
        """-> the heat maps (N, 16, 24, 24) of each stack, or of the first alone."""
        blob = demo_conv_norm(self.net, "conv1", image, 24, 5, 2)
        blob = demo_conv(self.net, "conv2", blob, DEMO_CHANNELS, 3, 2)
        outs = []
        for i in range(1, count + 1):
            features = self.residual(f"ll{i}", self.hourglass(f"hg{i}", blob, 3))
            features = demo_conv_norm(self.net, f"lin{i}", features, DEMO_CHANNELS, 1)
            outs.append(demo_conv(self.net, f"out{i}", features, JOINTS, 1, filler=CONSTANT_0))
            if i < count:
                back = [demo_conv(self.net, f"{name}_back", name, DEMO_CHANNELS, 1)
                        for name in ("lin1", "out1")]
                blob = self.net.layer("inter1", "Eltwise", [blob, *back])
        return outs


def demo_pose_body(net: Prototxt, **more: Any) -> list[str]:
    """STN, hourglass, SDTN -> the stacks' heat maps, where the STN put the person; heatmap_back where the crop was."""
    parts = DemoHourglass(net)
    parts.localisation("data")
    return parts.stacks(spatial_transformer(net, "stn", "data", "img", DEMO_FRAME, to_compute_dU=False, **more))


def demo_sppe_train() -> Prototxt:
    """The hourglass by itself; it sees the frames that an STN cuts, which is told where.

    theta learns from loss_theta and loss_loc alone; from the heat maps no gradient goes there. Of this network only the
    hourglass is kept.
    """
    net = Prototxt("demo_sppe_train", "The demo's SPPE, training: tools/train_demo.py feeds it")
    maps = DEMO_CROP // 4
    demo_inputs(net, label=[JOINTS, maps, maps], theta_label=[6])
    for i, out in enumerate(demo_pose_body(net, propagate_down=[False, False]), 1):
        back = spatial_transformer(net, f"destn{i}", out, f"back{i}", maps, [True, False], de_transform=True)
        net.layer(f"loss_{i}", "EuclideanLoss", [back, "label"], loss_weight=1)
    rough_loss(net)
    net.layer("loss_theta", "EuclideanLoss", ["theta", "theta_label"], loss_weight=100)
    return net


def demo_rough_train() -> Prototxt:
    """What the STN begins with: convolutions that roughly see where each joint of a crop is."""
    net = Prototxt("demo_rough_train", "The convolutions of the demo's STN, training: tools/train_demo.py feeds them")
    demo_inputs(net, label=[JOINTS, DEMO_CROP // 4, DEMO_CROP // 4])
    DemoHourglass(net).rough_look("data")
    rough_loss(net)
    return net


def demo_stn_train() -> Prototxt:
    """The STN alone, in front of the parallel SPPE."""
    net = Prototxt("demo_stn_train", "The demo's STN, training through heat maps: tools/train_demo.py feeds it")
    demo_inputs(net, label_center=[JOINTS, DEMO_FRAME // 4, DEMO_FRAME // 4])
    DemoHourglass(net).localisation("data")
    parallel_sppe(net, spatial_transformer(net, "stn", "data", "img", DEMO_FRAME, to_compute_dU=False))
    return net


def demo_pose_train() -> Prototxt:
    """The whole network as the paper trains it: every loss is one of heat maps, and reaches the STN."""
    net = Prototxt("demo_pose_train", "The demo's pose network, training: tools/train_demo.py feeds it")
    maps = DEMO_CROP // 4
    demo_inputs(net, label=[JOINTS, maps, maps], label_center=[JOINTS, DEMO_FRAME // 4, DEMO_FRAME // 4])
    for i, out in enumerate(demo_pose_body(net), 1):
        back = spatial_transformer(net, f"destn{i}", out, f"back{i}", maps, de_transform=True)
        net.layer(f"loss_{i}", "EuclideanLoss", [back, "label"], loss_weight=1)
    parallel_sppe(net, "img")
    return net


def parallel_sppe(net: Prototxt, image: str) -> None:
    """loss_center: of an hourglass that does not change, and is told that the person stands in the middle.

    As in the authors' network, it has half of the stacks. BatchNorm in it is as in deployment.
    """
    [out] = DemoHourglass(FrozenBranch(net, "para_", settled=True)).stacks(image, 1)
    net.layer("loss_center", "EuclideanLoss", [out, "label_center"], loss_weight=1)


def demo_inputs(net: Prototxt, **labels: list[int]) -> None:
    for name, dims in {"data": [3, DEMO_CROP, DEMO_CROP], **labels}.items():
        net.layer(name, "Input", top=name, input_param={"shape": {"dim": [16, *dims]}})


def rough_loss(net: Prototxt) -> None:
    """loss_loc: the STN's rough heat maps against the label's."""
    net.layer("label_pool", "Pooling", "label", pooling_param={"pool": Enum("AVE"), "kernel_size": 4, "stride": 4})
    net.layer("label_rough", "Power", "label_pool", power_param={"scale": 4})
    net.layer("loss_loc", "EuclideanLoss", ["loc_maps", "label_rough"], loss_weight=1)


def demo_pose_deploy() -> Prototxt:
    net = Prototxt("demo_pose", "The demo's pose network: person crop -> 16 joints")
    net.layer("data", "Input", top="data", input_param={"shape": {"dim": [1, 3, DEMO_CROP, DEMO_CROP]}})
    heatmaps_to_joints(net, demo_pose_body(net)[-1], DEMO_CROP // 4)
    return net


# --- the demo's pose network in the paper's way: the STN learns through the heat maps alone ---------------------------

SMALL, SMALL_MAPS, SMALL_BATCH = 96, 24, 16  # sides of crop and heat maps; crops in a batch
SMALL_FRACTION = 0.98  # a short training's statistics must not be those of its beginning


def small_train(parts: str) -> Prototxt:
    """The three forms that the ablation compares: the SPPE alone, with SSTN, and with the parallel SPPE too."""
    net = Prototxt(f"small{parts}_train", f"A small pose network for drawn people{_DESCRIBED[parts]}, training: rmpe "
                   "train-pose and rmpe reproduce ablation feed it", SMALL_FRACTION)
    parallel = parts == "_sstn_parallel"
    training_inputs(net, SMALL_BATCH, SMALL, SMALL_MAPS, SMALL_MAPS if parallel else None)
    outs = small_outs(net, parts)
    for i, out in enumerate(behind_sdtn(net, outs, SMALL_MAPS) if parts else outs, 1):
        heatmap_loss(net, f"loss{i}", out, "label", SMALL_MAPS)
    if parallel:
        for i, out in enumerate(DemoHourglass(FrozenBranch(net, "para_")).stacks("img"), 1):
            heatmap_loss(net, f"loss_center{i}", out, "label_center", SMALL_MAPS)
    return net


def small_outs(net: Prototxt, parts: str) -> list[str]:
    """-> the stacks' heat maps."""
    image, small = "data", DemoHourglass(net)
    if parts:
        small.localisation("data")
        image = spatial_transformer(net, "stn", "data", "img", SMALL, to_compute_dU=False)
    return small.stacks(image)


def small_deploy(parts: str) -> Prototxt:
    net = Prototxt(f"small{parts}", f"A small pose network for drawn people{_DESCRIBED[parts]}: person crop -> 16 "
                   "joints")
    net.layer("data", "Input", top="data", input_param={"shape": {"dim": [1, 3, SMALL, SMALL]}})
    heatmaps = small_outs(net, parts)[-1]
    if parts:
        heatmaps_to_joints(net, heatmaps, SMALL_MAPS)
    else:
        read_joints(net, heatmaps)
    return net


NETWORKS = {
    "ssd500/train.prototxt": ssd500_train,
    "ssd500/test.prototxt": ssd500_test,
    "ssd500/deploy.prototxt": ssd500_deploy,
    "ssd500/solver.prototxt": ssd500_solver,
    "sppe_sstn/deploy.prototxt": sppe_sstn,
    "sppe_sstn_affine/deploy.prototxt": sppe_sstn_affine,
    "demo/ssd_train.prototxt": demo_ssd_train,
    "demo/ssd_deploy.prototxt": demo_ssd_deploy,
    "demo/sppe_train.prototxt": demo_sppe_train,
    "demo/rough_train.prototxt": demo_rough_train,
    "demo/stn_train.prototxt": demo_stn_train,
    "demo/pose_train.prototxt": demo_pose_train,
    "demo/pose_deploy.prototxt": demo_pose_deploy,
}
for _parts in PARTS:
    NETWORKS[f"small{_parts}/train.prototxt"] = partial(small_train, _parts)
    for _stacks in (2, 4, 8):
        NETWORKS[f"sppe_{_stacks}hg{_parts}/train.prototxt"] = partial(sppe_train, _stacks, _parts)
        NETWORKS[f"sppe_{_stacks}hg{_parts}/solver.prototxt"] = partial(sppe_solver, _stacks, _parts)
for _parts in PARTS[:2]:  # the parallel SPPE is of use in training alone
    NETWORKS[f"small{_parts}/deploy.prototxt"] = partial(small_deploy, _parts)
    for _stacks in (2, 4, 8):
        NETWORKS[f"sppe_{_stacks}hg{_parts}/deploy.prototxt"] = partial(sppe_deploy, _stacks, _parts)
ROOT = Path(__file__).parents[1]


def write_for_coco(folder: Path) -> None:
    """Write the networks of RMPE's training for COCO's 17 joints, 2, 4 and 8 stacks: FOLDER/sppe_8hg_sstn/..."""
    for parts in PARTS:
        for stacks in (2, 4, 8):
            there = folder / f"sppe_{stacks}hg{parts}"
            there.mkdir(parents=True, exist_ok=True)
            (there / "train.prototxt").write_text(sppe_train(stacks, parts, COCO_JOINTS).text, encoding="utf-8")
            if parts in PARTS[:2]:
                (there / "deploy.prototxt").write_text(sppe_deploy(stacks, parts, COCO_JOINTS).text, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--coco", type=Path, metavar="FOLDER", help=write_for_coco.__doc__)
    if (coco := parser.parse_args().coco) is not None:
        write_for_coco(coco)
        return
    folder = ROOT / "prototxt"
    for path, make in NETWORKS.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(make().text, encoding="utf-8")
        print(target.relative_to(ROOT))
    bias = folder / "sppe_sstn_affine" / "bias_init.txt"
    bias.write_text("1 0 0 0 1 0\n", encoding="utf-8")  # theta of the identity
    print(bias.relative_to(ROOT))


if __name__ == "__main__":
    main()
