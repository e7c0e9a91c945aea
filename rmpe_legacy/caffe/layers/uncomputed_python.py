"""Python layers of published training networks that have shapes, and refuse to run.

A network with such a layer loads, is shown and drawn. With allow_python, the module itself runs.
"""

from __future__ import annotations

from collections.abc import Sequence

from .base import MAX_AXES, MAX_COUNT, Shape, count, shape_text
from .fed import ASSUMED, FedLayer
from .known_python import known_python, number, parameters
from .uncomputed import Uncomputed
from .weak_segmentation import SEC_MAP, VOC_CLASSES


class UncomputedPython(Uncomputed):
    """Base: as `shapes` says."""

    params = ("python_param",)
    reason = ("its shape is known, its numbers are not computed here; run its module with allow_python=True "
              "(--allow-python), or remove the layer")

    def parameter(self, name: str, default: float) -> int:
        """A whole number from param_str."""
        return int(number(self.spec, parameters(self.spec), name, default))

    def take(self, shapes: Sequence[Shape]) -> Sequence[Shape]:
        """The shapes of the tops that there are. Raises LayerError if there are more."""
        if len(shapes) < self.top_count:
            raise self.spec.error(f"gives {len(shapes)} tops, but is given {self.top_count}")
        return shapes[: self.top_count]


class PythonLoss(UncomputedPython):
    """A loss of a module that is not imported: its tops are scalars."""

    is_loss = True

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        return [()] * self.top_count


class _SameShape(UncomputedPython):
    """Base: the top has the shape of a bottom."""

    like = 0
    tops = 1

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        return [bottom[self.like]]


# --- weakly supervised segmentation: pylayers.py of akolesnikoff/SEC@c784190, speedinghzl/DSRG@91efdf7 -------


@known_python(("pylayers", "AnnotationLayer"))
class PyAnnotation(UncomputedPython):
    """Numbers of images, and of DSRG the images too -> labels (N, 1, 1, 21), cues (N, 21, 41, 41), and the images."""

    bottoms = (1, 2)
    tops = (2, 3)

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        n = self.nchw(bottom[0])[0]
        return self.take([(n, 1, 1, VOC_CLASSES), (n, VOC_CLASSES, SEC_MAP, SEC_MAP), *bottom[1:]])


@known_python(("pylayers", "CRFLayer"))
class PyDenseCrf(_SameShape):
    """Scores and images -> logarithms of probabilities, by a dense random field."""

    bottoms = 2


@known_python(("pylayers", "DSRGLayer"))
class PySeededRegions(_SameShape):
    """Labels, probabilities, cues and images -> cues that have grown."""

    bottoms = (3, 4)
    like = 1


# --- patches, triplets and text ------------------------------------------------------------------------------


@known_python(("sampling_layers", "RandomSamplingLayer"))
class PyRandomSampling(UncomputedPython):
    """Images and label maps -> `num` patches of output_size pixels, and their labels (num, 1). Source:
    resources/sampling_layers.py of XiaohangZhan/mix-and-match@8d4c9df."""

    bottoms = tops = 2

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        num, size = self.parameter("num", 0), self.parameter("output_size", 0)
        if min(num, size) < 1 or not bottom[0][0] or num % bottom[0][0]:
            raise self.spec.error("needs output_size above 0, and num, a multiple of the images; num is "
                                  f"{num} for {bottom[0][0]} images")
        return [(num, self.nchw(bottom[0])[1], size, size), (num, 1)]


class _ThreeAlike(UncomputedPython):
    """Base: features and labels -> those of anchors, of likes and of unlikes, of the features' shape."""

    bottoms, tops = 2, 3

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        return [bottom[0]] * 3


@known_python(("sampling_layers", "GraphToTripletLayer"))
class PyGraphToTriplet(_ThreeAlike):
    """Triplets of a graph that grows by chance. Source: resources/sampling_layers.py of
    XiaohangZhan/mix-and-match@8d4c9df."""


@known_python(("tripletsample_layer", "TripletSampleLayer"))
class PyTripletSample(_ThreeAlike):
    """Triplets of a batch, drawn by chance; as many as it has pairs when it runs. Source:
    triplet/tripletsample_layer.py of hizhangp/triplet@9713496."""


@known_python(("projection_layer_CSPN", "SimplexProjectionLayer"))
class PySimplexProjection(_SameShape):
    """Probabilities, labels and numbers of images -> probabilities that fill as much as files of saliency say. Source:
    projection_layer_CSPN.py of briqr/CSPN@d3d01e5."""

    bottoms = (3, None)


@known_python(("regionlosslayer", "RegionLossLayer"), ("detectionlosslayer", "DetectionLossLayer"))
class PyYoloLoss(UncomputedPython):
    """YOLO's losses of versions 2 and 1. Sources: lib/{regionlosslayer,detectionlosslayer}.py of
    leon-liangwu/py-caffe-yolo@8407d3c."""

    bottoms, tops = 2, 1

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        return [(1,)]


@known_python(("pythonLayer", "regression_Layer"), ("alphaPredictionLoss", "AlphaPredictionLossLayer"),
              ("overallLoss", "EncoderDecoderLossLayer"), ("pylayerUtils", "RBoxLossLayer"),
              ("tripletloss_layer", "TripletLayer"), ("triplet_loss", "TripletLossLayer1"),
              ("distance_layer", "DistanceLayer"), ("src.MyLossLayer.netloss_live", "MyLossLayer"),
              ("src.MyLossLayer.netloss_tid2013", "MyLossLayer"), ("python.NormlizedMSE", "NormlizedMSE"))
class PyUncomputedLoss(UncomputedPython):
    """Losses (1,): of MTCNN's boxes and landmarks (CongWeilin/mtcnn-caffe@2883feb), of mattes
    (ShawnNew/shape-alpha-matting@fe05671), of EAST's rotated boxes (SURFZJY/EAST-caffe@8edbca8), of triplets
    (hizhangp/triplet@9713496, TuBui/Triplet_Loss_SBIR@949ccc3), of how compact a class is
    (PramuPerera/DeepOneClass@cdb6bcc), of which image is worse (xialeiliu/RankIQA@22ca65c), of landmarks, by how far
    the eyes are from each other (ishay2b/VanillaCNN@de5e67d)."""

    bottoms, tops = (1, 3), 1

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        return [(1,)]


class _FacesOfClasses(UncomputedPython):
    """Base: scores (N, 2) and labels -> those of the rows whose label is not -1, then zeros."""

    bottoms = tops = 2
    more: Shape = ()

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        rows = bottom[1][:1]
        return [(*rows, 2, *self.more), (*rows, 1)]


@known_python(("pythonLayer", "cls_Layer"))
class PyFaceRows(_FacesOfClasses):
    """As the base. Source: 48net/pythonLayer.py of CongWeilin/mtcnn-caffe@2883feb."""


@known_python(("pythonLayer", "cls_Layer_fc"))
class PyFaceMaps(_FacesOfClasses):
    """As the base, (N, 2, 1, 1). Source: 48net/pythonLayer.py of CongWeilin/mtcnn-caffe@2883feb."""

    more = (1, 1)


@known_python(("balance_label_layer", "LabelBalanceLayer"))
class PyLabelBalance(_SameShape):
    """Scores, probabilities and labels -> the scores, whose gradient is weighed by how rare a label is. Source:
    balance_label_layer.py of ZijingChen/trackBySeg@6bdfad7."""

    bottoms = 3


class _Pairs(UncomputedPython):
    """Base: features (1, C, H, W) and labels -> pairs of them, side by side, and whether they differ."""

    bottoms = tops = 2
    pairs, side = 20, 3

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        n, channels = self.nchw(bottom[0])[:2]
        if n != 1:
            raise self.spec.error(f"takes one image at a time, not {n}")
        return [(self.pairs, 2 * channels, self.side, self.side), (self.pairs * self.nchw(bottom[1])[0], 1)]


@known_python(("sub_sample_layer", "SubSampleLayer"))
class PySubSample(_Pairs):
    """Pairs of windows, drawn by chance. Source: sub_sample_layer.py of ZijingChen/trackBySeg@6bdfad7."""


@known_python(("sub_sample_layer", "SubPointLayer"), ("sub_sample_layer", "SubPointLayerTest"))
class PySubPoints(_Pairs):
    """Pairs of points, drawn by chance. Source: sub_sample_layer.py of ZijingChen/trackBySeg@6bdfad7."""

    pairs, side = 180, 1


# --- jialinwu17/box_cls_reg@be48824, lib/roi_data_layer and lib/fast_rcnn/config.py ---------------------------


@known_python(("roi_data_layer.inspect_layer", "InspectLayer"))
class PyInspect(_SameShape):
    """The bottom; the published layer prints its gradient's mean."""

    bottoms = 1


@known_python(("roi_data_layer.debug_layer", "RoIDataLayer"))
class PyDebug(UncomputedPython):
    """No tops: blobs for a debugger to look at."""

    tops = 0

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        return []


@known_python(("roi_data_layer.transpose_layer", "RoIDataLayer"))
class PyTransposed(UncomputedPython):
    """The axes in another order, which param_str gives as text: order: '0,2,3,1'."""

    bottoms = tops = 1

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        order = [part.strip() for part in str(parameters(self.spec).get("order", "")).split(",")]
        if sorted(order) != sorted(map(str, range(len(bottom[0])))):
            raise self.spec.error(f"its param_str needs 'order': the {len(bottom[0])} axes' numbers, with commas")
        return [tuple(bottom[0][int(axis)] for axis in order)]


@known_python(("roi_data_layer.rfcn_anno_layer_new", "RoIDataLayer"))
class PyBoxesByClasses(UncomputedPython):
    """Three points for each region (3, 2) and what is learnt there: the weights of 49 regions for 64 x 9 samples,
    labels and two kinds of weights for 64 parts of each class but the first, the same for 16 sides, features (3, 64),
    and the samples (576, 2). Three times as many rows as regions when it runs."""

    tops = 10

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        classes = self.parameter("num_classes", 21) - 1
        return [(3, 2), (3, 64, 9, 49), *[(3, 64 * classes)] * 3, *[(3, 16, classes, 1)] * 3, (3, 64), (576, 2)]


# --- captions -------------------------------------------------------------------------------------------------


@known_python(("python_data_layers", "pairedCaptionData"))
class PyCaptions(FedLayer):
    """DCC's words, the next words and whether a sentence goes on (stream_size, batch_size), and images' features
    (batch_size, 471), fed. Source: utils/python_data_layers.py of LisaAnne/DCC@a885b5d."""

    params = ("python_param",)
    tops = 4

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        values = parameters(self.spec)
        length, batch = (int(number(self.spec, values, name, default))
                         for name, default in (("stream_size", 20), ("batch_size", 100)))
        return [*[(length, batch)] * 3, (batch, 471)]


# --- saliency, hands and actions ------------------------------------------------------------------------------


@known_python(("read_data", "input_layer"), ("read_data1", "input_layer"))
class PySaliencyData(FedLayer):
    """Images (N, 3, H, W) and maps of what is salient (N, 1, H, W), of resize_size, fed. Sources: layers/read_data.py,
    layers/read_data1.py of scutDACIM/MEnet@ce5eafd."""

    params = ("python_param",)
    tops = 2

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        values = parameters(self.spec)
        size = values.get("resize_size")
        if not isinstance(size, list) or len(size) != 2 or not all(isinstance(n, int) and n > 0 for n in size):
            raise self.spec.error("its param_str needs resize_size: the height and width of its images")
        n = int(number(self.spec, values, "batch_size" if values.get("split") == "train" else "test_batch_size"))
        return [(n, 3, *size), (n, 1, *size)]


@known_python(("CustomData", "CustomData"))
class PyFedBlob(FedLayer):
    """A blob that the program fills, fed: param_str is its shape, 2,3,16,112,112. Source: CustomData.py of
    sunnycia/scripts@efd9745."""

    params = ("python_param",)
    tops = 1
    assumes = False

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        sizes = self.spec.get("python_param").param_str.split(",")
        if not all(size.strip().isdecimal() for size in sizes) or len(sizes) > MAX_AXES:
            raise self.spec.error("its param_str must be a shape: up to 32 sizes with commas, such as 1,3,288,480")
        shape = tuple(map(int, sizes)) if all(len(size) <= len(str(MAX_COUNT)) for size in sizes) else (MAX_COUNT, 2)
        if count(shape) > MAX_COUNT:
            raise self.spec.error(f"its param_str is a shape of more than {MAX_COUNT} values")
        return [shape]


@known_python(("input_layer", "PyDataLayer"))
class PyModalities(FedLayer):
    """Scores of segments, flows, normals and depths, predicted (pr) or true (gt), (N, C, 256, 256), or the images'
    numbers (N,), fed: `tops` in param_str names them, such as prseg_in, gtflow_in, seg_gt and img_idx. Sources:
    tools/input_handler.py and tools/*_loader.py of lhoangan/341n143@11fc0e8."""

    params = ("python_param",)
    guesses = True  # at the size of its images
    channels = (("flow", 2), ("norm", 3), ("depth", 1), ("seg_gt", 1))
    classes = (("vkitti_loader", 13), ("gdxtracted_loader", 15))

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        values = parameters(self.spec)
        tops = values.get("tops")
        if not isinstance(tops, list) or len(tops) != self.top_count:
            raise self.spec.error(f"its param_str needs 'tops': the names of what its {self.top_count} tops hold")
        n = int(number(self.spec, values, "batch_size", 1))
        classes = dict(self.classes).get(str(values.get("loader")), 1)
        if not 1 <= n <= MAX_COUNT:
            raise self.spec.error("its param_str needs a 'batch_size' above 0")
        return [(n,) if top == "img_idx" else
                (n, next((c for part, c in self.channels if part in str(top)), classes), ASSUMED, ASSUMED)
                for top in tops]


@known_python(("pyloss", "EuclideanLossLayer"), ("pyloss_sigmoid", "EuclideanLossLayer"), of_bottoms=3)
class PyTwoLosses(UncomputedPython):
    """A loss of distances of features, and one of saliency (2,). Sources: layers/pyloss.py, layers/pyloss_sigmoid.py of
    scutDACIM/MEnet@ce5eafd."""

    bottoms, tops = 3, 1

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        return [(2,)]


@known_python(("python_layers.py_generate_roi_layer", "PyGenerateROILayer"))
class PyRegionsOfJoints(UncomputedPython):
    """Poses (N, 3 J) -> the region around a joint of each (N, 5). Source:
    src/libs/python_layers/py_generate_roi_layer.py of xinghaochen/Pose-REN@7bb908f."""

    bottoms = tops = 1

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        n, values = self.nchw(bottom[0])[:2]
        joint = self.parameter("joint_idx", -1)
        if not 0 <= joint < values // 3:
            raise self.spec.error(f"needs joint_idx, the number of one of {values // 3} joints")
        return [(n, 5)]


# --- lferrer/iccv2017@7acb7b2, layers -------------------------------------------------------------------------


@known_python(("data_switch", "DataSwitchLayer"))
class PyDataSwitch(UncomputedPython):
    """Two clips, by turns in this order and in the other."""

    bottoms = tops = 2

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        if not (bottom[0] and bottom[1]) or count(bottom[0]) != count(bottom[1]):
            raise self.spec.error(f"takes two blobs of one size, not {', '.join(map(shape_text, bottom))}")
        return [(shape[0], 3, 16, 112, 112) for shape in bottom]


@known_python(("label_parse", "LabelParseLayer"), ("label_split", "LabelSplitLayer"))
class PyPartsOfLabels(UncomputedPython):
    """Labels whose digits say two things -> one of them, or both, (N, 1) each."""

    bottoms = 1
    tops = (1, 2)

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        return [(self.nchw(bottom[0])[0], 1)] * self.top_count


@known_python(("mvn", "MVNLayer"))
class PyUnitRows(_SameShape):
    """Each row, divided by its length."""

    bottoms = 1


@known_python(("cyclic_loss", "CyclicLossLayer"))
class PyCyclicLoss(UncomputedPython):
    """How far four rows of features are from a circle, (1,)."""

    bottoms, tops = 4, 1

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        if len({count(shape) for shape in bottom}) > 1:
            raise self.spec.error(f"takes blobs of one size, not {', '.join(map(shape_text, bottom))}")
        return [(1,)]


@known_python(("save_features", "SaveFeaturesLayer"))
class PySavedFeatures(UncomputedPython):
    """No tops: writes its bottoms to a file."""

    tops = 0

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        return []


# --- regions with parts hidden: lib/roi_data_layer/layer.py of xiaolonw/adversarial-frcnn@2a7bb96 ------------


@known_python(("roi_data_layer.layer", "ASDNPretrainLabelLayer"))
class PyObjectsAlone(UncomputedPython):
    """Features, labels and regions -> those of labels above 0; how many there are is known only when it runs."""

    bottoms = tops = 3

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        return [bottom[0], (1,), bottom[2]]


@known_python(("roi_data_layer.layer", "ASDNPretrainDataLayer"))
class PyHiddenParts(UncomputedPython):
    """Features -> copies with a part set to 0, and masks of the parts. Like the module, it has the shape of its bottom
    until it runs."""

    tops = 2

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        return bottom * 2


@known_python(("roi_data_layer.layer", "ASDNDataLayer"))
class PyPartsToHide(UncomputedPython):
    """Predicted masks (R, 1, h, w) and labels -> masks of what to hide, and the same for each of `channels`."""

    bottoms = tops = 2

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        n, _, h, w = self.nchw(bottom[0])
        channels = self.parameter("channels", 0)
        if channels < 1:
            raise self.spec.error("its param_str needs 'channels': a number above 0")
        return [bottom[0], (n, channels, h, w)]


@known_python(("roi_data_layer.layer", "ASDNPretrainLossLayer"), ("roi_data_layer.layer", "ASDNLossLayer"))
class PyHiddenPartsLoss(UncomputedPython):
    """Compares predicted masks with those that lower a region's probability -> (1)."""

    bottoms, tops = (6, 7), 1

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        return [(1,)]


# --- faces' landmarks: DesignLayer of CSshengxy/DAN-Caffe@4fbb5cf, which does not run as published ------------


@known_python(("InitLandmark", "InitLandmark"))
class PyInitLandmark(_SameShape):
    """Offsets -> landmarks: the offsets from a mean face."""

    bottoms = 1


@known_python(("SumOfSquaredLossLayer", "SumOfSquaredLossLayer"))
class PyLandmarkLoss(UncomputedPython):
    """The distances of predicted and true landmarks, by that of the eyes: (1,)."""

    bottoms, tops = 2, 1

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        return [(1,)]


@known_python(("TransformParamsLayer", "TransformParamsLayer"))
class PyTransformOfLandmarks(UncomputedPython):
    """Landmarks -> the affine transform to the mean face, (1, 6)."""

    bottoms, tops = 1, 1

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        return [(1, 6)]


# --- light fields: layers of JunhyeongBak/Caffe_Light_Field@12767af --------------------------------------------


@known_python(("input_shifting_layer", "InputShiftingLayer"))
class PyShiftedImage(_SameShape):
    """Images, moved by tx and ty pixels."""

    bottoms = 1


@known_python(("warping_layer", "WarpingLayer"), ("bilinear_sampler_layer", "BilinearSamplerLayer"),
              ("bilinear_sampler_layer_3ch", "BilinearSamplerLayer3ch"))
class PyWarpedImage(_SameShape):
    """Images and flows -> the images, read where the flows point. The module for colours is not public."""

    bottoms = 2


@known_python(("visualization_layer", "VisualizationLayer"), ("visualization_layer_norm", "VisualizationLayer"))
class PyVisualization(UncomputedPython):
    """Writes its bottom as images to files -> (1,)."""

    bottoms, tops = 1, 1

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        return [(1,)]


# --- segmentation ------------------------------------------------------------------------------------------------


@known_python(("weight_sig_test", "WeightedLayer"))
class PyWeightedClasses(UncomputedPython):
    """Scores of places and of images -> the places' scores weighed, (1, 21, 65, 65). Source: weight_sig_test.py of
    gramuah/weakly-supervised-segmentation@a762bfd."""

    bottoms, tops = 2, 1

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        return [(1, VOC_CLASSES, 65, 65)]


@known_python(("digits_python_layers", "ComputeH"))
class PyInfogainMatrix(UncomputedPython):
    """Labels -> the matrix of an InfogainLoss that weighs rare classes more, (1, 1, n_classes, n_classes). Source:
    model/ComputeH.py of strator1/Ciloctunet@57f4399."""

    bottoms, tops = 1, 1

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        classes = self.parameter("n_classes", 0)
        if not 0 < classes**2 <= MAX_COUNT:
            raise self.spec.error(f"its param_str needs 'n_classes', above 0 and not above {int(MAX_COUNT**0.5)}")
        return [(1, 1, classes, classes)]
