"""NetSpec, caffe_pb2, model_libs, coord_map and draw."""

import sys

import cv2
import numpy as np
import pytest
from google.protobuf import text_format
from harness import GOLDEN

from rmpe_legacy import pycaffe as caffe
from rmpe_legacy.caffe.load import read_net
from rmpe_legacy.caffe.proto.protobuf import caffe_pb2 as message_classes
from rmpe_legacy.caffe.proto.text import parse_text, read_text
from rmpe_legacy.caffe.proto.upgrade import upgrade_net
from rmpe_legacy.errors import RmpeError
from rmpe_legacy.pycaffe import coord_map, draw, model_libs
from rmpe_legacy.pycaffe import layers as L
from rmpe_legacy.pycaffe import params as P
from rmpe_legacy.pycaffe.proto import caffe_pb2
from rmpe_legacy.pycaffe.settings import current


@pytest.fixture(autouse=True)
def _settings():
    before = dict(vars(current))
    yield
    vars(current).update(before)


def spec_with_data(*shape: int) -> caffe.NetSpec:
    n = caffe.NetSpec()
    n.data = L.Input(shape={"dim": list(shape)})
    return n


def shapes_of(n: caffe.NetSpec, folder) -> dict[str, tuple[int, ...]]:
    """The shapes of all blobs, from the prototxt that the spec writes; takes no memory for them."""
    (folder / "net.prototxt").write_text(str(n.to_proto()))
    steps = read_net(folder / "net.prototxt", dialect=current.messages).wire()
    return {top: shape for step in steps for top, shape in zip(step.top, step.top_shapes, strict=True)}


class TestNetSpec:
    def test_names_layers_after_their_blobs_and_works_in_place(self):
        n = spec_with_data(1, 3, 8, 8)
        n.conv = L.Convolution(n.data, kernel_size=3, num_output=2, weight_filler={"type": "xavier"})
        n.relu = L.ReLU(n.conv, in_place=True)
        n["fc"] = L.InnerProduct(n.relu, num_output=4)
        net = n.to_proto()
        assert [(e.name, list(e.bottom), list(e.top)) for e in net.layer] == [
            ("data", [], ["data"]), ("conv", ["data"], ["conv"]), ("relu", ["conv"], ["conv"]),
            ("fc", ["conv"], ["fc"])]
        assert net.layer[1].convolution_param.kernel_size == [3]
        assert net.layer[1].convolution_param.weight_filler.type == "xavier"

    def test_makes_up_names_without_a_spec(self):
        data = L.Input(shape={"dim": [1, 3]})
        a = L.InnerProduct(data, num_output=4)
        net = L.InnerProduct(a, num_output=2).to_proto()
        assert [e.name for e in net.layer] == ["Input1", "InnerProduct1", "InnerProduct2"]

    def test_layers_of_no_and_of_two_tops(self):
        n = caffe.NetSpec()
        n.a, n.b = L.DummyData(shape={"dim": [3]}, ntop=2)
        n.quiet = L.Silence(n.a, n.b, ntop=0)
        assert list(n.to_proto().layer[0].top) == ["a", "b"]
        assert n.to_proto().layer[1].name == "quiet"

    def test_keys_update_and_del(self):
        n = spec_with_data(1, 3)
        n.fc = L.InnerProduct(n.data, num_output=4)
        n.update("fc", {"num_output": 7})
        assert n.keys()[-1] == "fc"
        assert n.to_proto().layer[1].inner_product_param.num_output == 7
        del n["fc"]
        assert n.keys() == ["data"]

    def test_bad_use(self):
        n = spec_with_data(1, 3)
        with pytest.raises(TypeError, match="Silence input 0 is not a Top"):
            L.Silence((n.data,), ntop=0)
        with pytest.raises(KeyError, match="no blob 'dta'; did you mean 'data'"):
            n.dta  # noqa: B018
        n.fc = L.InnerProduct(n.data, num_outputs=4)
        with pytest.raises(AttributeError, match=r"InnerProduct: .* no parameter 'num_outputs'; "):
            n.to_proto()

    def test_enum_values_are_those_of_the_schema(self):
        assert (P.Pooling.MAX, P.Pooling.AVE, P.Eltwise.MAX) == (0, 1, 2)
        assert caffe_pb2.Phase.Value("TEST") == caffe.TEST == caffe_pb2.TEST


class TestCaffePb2:
    def test_text_and_bytes_are_those_of_our_own_readers(self, tmp_path):
        n = spec_with_data(1, 3, 8, 8)
        n.pool = L.Pooling(n.data, pool=P.Pooling.AVE, kernel_size=2, stride=2)
        net = n.to_proto()
        assert parse_text(str(net)).layer[1].pooling_param.pool == "AVE"
        assert caffe_pb2.NetParameter.FromString(net.SerializeToString()) == net

    def test_without_a_dialect_messages_have_what_others_know(self):
        text = ("layer { name: 'p' type: 'PriorBox' prior_box_param { min_size: 30 offset: 0.25 } } "
                "layer { name: 'r' type: 'ROIPooling' roi_pooling_param { pooled_h: 7 } }")
        net = text_format.Parse(text, caffe_pb2.NetParameter())
        assert net.layer[0].prior_box_param.offset == 0.25
        assert net.layer[0].prior_box_param.clip  # RMPE's default
        assert caffe_pb2.NetParameter.FromString(net.SerializeToString()) == net
        n = spec_with_data(1, 3, 8, 8)
        n.rois = L.ROIPooling(n.data, pooled_h=7)
        assert n.to_proto().layer[1].roi_pooling_param.pooled_h == 7

    def test_numbers_that_forks_disagree_about_stay_unknown_in_bytes(self):
        def written(dialect):  # field 147 of a layer
            made = message_classes(dialect).NetParameter()
            layer = made.layer.add(name="a")
            {"rmpe": lambda: layer.tile_param, "segnet": lambda: layer.bn_param, "pspnet": lambda: layer.bn_param,
             "rcnn": lambda: layer.roi_pooling_param}[dialect]().SetInParent()
            return made.SerializeToString()

        for dialect in ("rmpe", "segnet", "pspnet", "rcnn"):
            net = caffe_pb2.NetParameter.FromString(written(dialect))
            assert net.layer[0].name == "a"
            assert net.SerializeToString() == written(dialect)

    def test_another_dialect_has_other_fields(self):
        caffe.configure(dialect="rmpe")
        with pytest.raises(AttributeError, match="dialect 'rmpe' has no message, enum or value 'ClipParameter'"):
            caffe_pb2.ClipParameter  # noqa: B018
        caffe.configure(dialect="bvlc")
        assert caffe_pb2.ClipParameter(min=1).min == 1


class TestModelLibs:
    def test_ssd_deploy_equals_the_golden_layer_for_layer(self, tmp_path):
        """As the published script makes it (ssd_pascal_MPII_COCO14VGG.py of RMPE@5188c23)."""
        n = caffe.NetSpec()
        n.data, n.label = model_libs.CreateAnnotatedDataLayer("lmdb", batch_size=1, train=False)
        model_libs.VGGNetBody(n, "data", fully_conv=True, reduced=True, dilated=True, dropout=False,
                              freeze_layers=["conv1_1", "conv1_2", "conv2_1", "conv2_2"])
        below = "relu7"
        for name, width, kernel, pad, stride in (
                ("conv6_1", 256, 1, 0, 1), ("conv6_2", 512, 3, 1, 2), ("conv7_1", 128, 1, 0, 1),
                ("conv7_2", 256, 3, 1, 2), ("conv8_1", 128, 1, 0, 1), ("conv8_2", 256, 3, 1, 2)):
            model_libs.ConvBNLayer(n, below, name, False, True, width, kernel, pad, stride)
            below = name
        n.pool6 = L.Pooling(n[n.keys()[-1]], pool=P.Pooling.AVE, global_pooling=True)
        sources = ["conv4_3", "fc7", "conv6_2", "conv7_2", "conv8_2", "pool6"]
        boxes = model_libs.CreateMultiBoxHead(
            n, "data", 2, sources, normalizations=[20, -1, -1, -1, -1, -1], use_batchnorm=False,
            min_sizes=[50.0, 100.0, 190.0, 280.0, 370.0, 460.0], max_sizes=[[], 190.0, 280.0, 370.0, 460.0, 550.0],
            aspect_ratios=[[2], *[[2, 3]] * 5], prior_variance=[0.1, 0.1, 0.2, 0.2], kernel_size=3, pad=1)
        n.mbox_conf_reshape = L.Reshape(n.mbox_conf, shape={"dim": [0, -1, 2]})
        n.mbox_conf_softmax = L.Softmax(n.mbox_conf_reshape, axis=2)
        n.mbox_conf_flatten = L.Flatten(n.mbox_conf_softmax, axis=1)
        n.detection_out = L.DetectionOutput(
            boxes[0], n.mbox_conf_flatten, boxes[2], include={"phase": caffe_pb2.Phase.Value("TEST")},
            detection_output_param={
                "num_classes": 2, "share_location": True, "background_label_id": 0,
                "nms_param": {"nms_threshold": 0.45, "top_k": 400}, "keep_top_k": 200, "confidence_threshold": 0.01,
                "code_type": P.PriorBox.CENTER_SIZE})
        net = n.to_proto()
        del net.layer[0]
        net.input.append("data")
        net.input_shape.add().dim.extend([1, 3, 500, 500])
        (tmp_path / "deploy.prototxt").write_text(str(net))
        ours = upgrade_net(read_text(tmp_path / "deploy.prototxt")).layer
        golden = upgrade_net(read_text(GOLDEN / "nets" / "ssd" / "deploy.prototxt")).layer
        assert len(ours) == len(golden) > 80
        for mine, theirs in zip(ours, golden, strict=True):
            assert mine == theirs

    def test_stacked_hourglass_gives_a_heatmap_for_each_of_16_joints(self, tmp_path):
        n = spec_with_data(1, 3, 256, 256)
        model_libs.HGStacked(n, "data")
        assert shapes_of(n, tmp_path)["output"] == (1, 16, 64, 64)

    def test_final_relu_differs(self):
        """RMPE's HourGlass fails with it."""
        n = spec_with_data(1, 256, 64, 64)
        model_libs.HourGlass(n, "data", "hg", n=1, In=256, out=256, final_relu=True)
        assert n.to_proto().layer[-1].type == "ReLU"

    def test_squeezenet_gives_the_six_numbers_of_theta(self, tmp_path):
        n = spec_with_data(1, 3, 256, 256)
        model_libs.SqueezeNetBody(n, "data")
        assert shapes_of(n, tmp_path)["theta"] == (1, 6)

    @pytest.mark.parametrize(("dialect", "build", "size", "blob", "shape"), [
        ("rmpe", "ResNet152Body", 224, "pool5", (1, 2048, 1, 1)),
        ("ssd", "ResNet101Body", 224, "res5c", (1, 2048, 7, 7)),
        ("rmpe", "InceptionV3Body", 299, "mixed_10/join", (1, 2048, 8, 8)),
        ("ssd", "InceptionV3Body", 299, "mixed_10/join", (1, 2048, 8, 8)),
        ("ssd", "ZFNetBody", 224, "fc7", (1, 4096)),
        ("rmpe", "VGGNetBodyBN", 224, "fc7", (1, 2048)),
    ])
    def test_bodies_have_the_sizes_of_their_papers(self, dialect, build, size, blob, shape, tmp_path):
        caffe.configure(dialect=dialect)
        n = spec_with_data(1, 3, size, size)
        getattr(model_libs, build)(n, "data")
        assert shapes_of(n, tmp_path)[blob] == shape

    def test_bad_use(self):
        n = spec_with_data(1, 3, 32, 32)
        with pytest.raises(AssertionError, match="no blob 'pool9' to start from"):
            model_libs.VGGNetBody(n, "pool9")
        with pytest.raises(AssertionError, match="num_classes is 0"):
            model_libs.CreateMultiBoxHead(n)
        with pytest.raises(AssertionError, match="min_sizes has 1 items for 2 from_layers"):
            model_libs.CreateMultiBoxHead(n, num_classes=2, from_layers=["a", "b"], min_sizes=[30.0])


class TestCoordMap:
    def test_a_convolution_and_a_deconvolution_that_undo_each_other(self):
        n = spec_with_data(1, 1, 100, 100)
        n.pool = L.Pooling(n.data, kernel_size=4, stride=4)
        n.up = L.Deconvolution(n.pool, kernel_size=8, stride=4)
        axis, scale, shift = coord_map.coord_map_from_to(n.up, n.data)
        assert (axis, scale, shift) == (1, 1, -2)
        layer = coord_map.crop(n.up, n.data).fn
        assert layer.params["crop_param"] == {"axis": 2, "offset": [2]}

    def test_bad_use(self):
        n = spec_with_data(1, 1, 100, 100)
        n.pool = L.Pooling(n.data, kernel_size=3, stride=3)
        n.fc = L.InnerProduct(n.data, num_output=3)
        with pytest.raises(AssertionError, match="the scales differ"):
            coord_map.crop(n.pool, n.data)
        with pytest.raises(RuntimeError, match="no map leads"):
            coord_map.coord_map_from_to(n.fc, n.pool)


class TestDraw:
    @pytest.fixture
    def net(self):
        n = spec_with_data(1, 3, 8, 8)
        n["<conv&>"] = L.Convolution(n.data, kernel_size=3, num_output=2, pad=1)
        n.relu = L.ReLU(n["<conv&>"], in_place=True)
        n.pool = L.Pooling(n.relu, pool=P.Pooling.AVE, kernel_size=2, stride=2)
        return n.to_proto()

    def test_labels(self, net):
        assert draw.get_layer_label(net.layer[1], "TB") == '"<conv&> (Convolution) kernel size: 3 stride: 1 pad: 1"'
        assert draw.get_layer_label(net.layer[3], "LR").startswith(r'"pool\n(Pooling AVE)\n')
        assert draw.get_edge_label(net.layer[1]) == "2"
        assert draw.get_layer_lr_mult(net.layer[1]) == (1.0, 1.0)

    def test_svg_is_well_formed_whatever_the_names(self, net):
        import xml.etree.ElementTree as ET
        root = ET.fromstring(draw.draw_net(net, "TB", "svg"))
        texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
        assert "<conv&>" in texts
        assert "(Pooling AVE)" in texts

    @pytest.mark.parametrize("rankdir", ["LR", "RL", "TB", "BT"])
    def test_png_is_a_picture_that_is_longer_the_way_it_runs(self, net, rankdir, tmp_path):
        draw.draw_net_to_file(net, str(tmp_path / "net.png"), rankdir)
        height, width, _ = cv2.imread(str(tmp_path / "net.png")).shape
        assert (width > height) == (rankdir in ("LR", "RL"))

    def test_phases_and_bad_use(self, net):
        net.layer[3].include.add().phase = caffe.TRAIN
        assert b"pool" not in draw.draw_net(net, "LR", "dot", phase=caffe.TEST)
        assert b"pool" in draw.draw_net(net, "LR", "dot", phase=caffe.TRAIN)
        with pytest.raises(RmpeError, match="cannot be drawn as 'bmp9'"):
            draw.draw_net(net, "LR", "bmp9")
        with pytest.raises(ValueError, match="no learning rate multiplier"):
            draw.get_layer_lr_mult(net.layer[3])
        net.layer[3].exclude.add().phase = caffe.TEST
        with pytest.raises(ValueError, match="pool: has include rules and exclude rules; keep one kind"):
            draw.draw_net(net, "LR", "dot", phase=caffe.TEST)

    def test_learning_rate_multipliers(self, net):
        net.layer[1].param.add().lr_mult = 2
        assert draw.get_layer_label(net.layer[1], "TB", True).endswith(' lr mult: 2.0, 1.0"')
        for _ in range(2):
            net.layer[1].param.add()
        with pytest.raises(ValueError, match="has 3 learning rate multipliers; 2 are expected"):
            draw.get_layer_lr_mult(net.layer[1])

    def test_dot_quotes_every_name(self, net):
        net.name = 'a "net"\\'
        lines = draw.draw_net(net, "BT", "dot").decode().splitlines()
        assert lines[:2] == ['digraph "a \\"net\\"\\\\" {', "  rankdir=BT;"]
        assert '  n3 [label="<conv&>", shape=octagon, style=filled, fillcolor="#E0E0E0"];' in lines

    @pytest.mark.parametrize("suffix", ["png", "jpg"])
    def test_an_image_too_large_to_draw_is_an_error(self, suffix):
        net = caffe_pb2.NetParameter()
        for i in range(500):
            net.layer.add(name=f"y{i}", type="ReLU", bottom=[f"y{i}"], top=[f"y{i + 1}"])
        with pytest.raises(RmpeError, match=r"an image of 94358 x 132 pixels is too large to draw; choose svg"):
            draw.draw_net(net, "LR", suffix)

    def test_pydot_is_named_if_it_is_missing(self, net, monkeypatch):
        monkeypatch.setitem(sys.modules, "pydot", None)
        with pytest.raises(RmpeError, match="get_pydot_graph needs pydot, which is not installed; draw_net draws"):
            draw.get_pydot_graph(net, "LR")


def test_io_goes_through_protobuf_messages(tmp_path):
    values = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    blob = caffe.io.array_to_blobproto(values, 2 * values)
    assert isinstance(blob, caffe_pb2.BlobProto)
    assert np.array_equal(caffe.io.blobproto_to_array(blob), values)
    assert np.array_equal(caffe.io.blobproto_to_array(blob, return_diff=True), 2 * values)
    datum = caffe.io.array_to_datum(values.astype(np.uint8), label=3)
    assert datum.label == 3
    assert np.array_equal(caffe.io.datum_to_array(datum), values)
    blob.shape.dim.pop()
    with pytest.raises(ValueError, match="has 24 values"):
        caffe.io.blobproto_to_array(blob)


def test_transformer_resizes_a_mean_of_another_size():
    transformer = caffe.io.Transformer({"data": (1, 3, 4, 6)})
    transformer.set_mean("data", np.full((3, 8, 8), 7.0))
    assert transformer.mean["data"].shape == (3, 4, 6)
    assert np.allclose(transformer.mean["data"], 7)
    ramp = np.broadcast_to(np.linspace(0, 1, 12)[None, None, :], (3, 8, 12))
    transformer.set_mean("data", ramp)
    want = caffe.io.resize_image(ramp.transpose(1, 2, 0), (4, 6)).transpose(2, 0, 1)
    assert np.allclose(transformer.mean["data"], want, atol=1e-6)
