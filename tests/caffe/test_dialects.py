"""Dialects: what a fork adds to its base, and which dialect a file is read in."""

import json
import re
import warnings
from pathlib import Path

import pytest
import torch
from one_layer import layer, net_of
from paths import ROOT

from rmpe_legacy import RmpeError, load_net
from rmpe_legacy.caffe.choose_dialect import read_network
from rmpe_legacy.caffe.describe import describe_net
from rmpe_legacy.caffe.layers import registry
from rmpe_legacy.caffe.layers.known_python import known_names
from rmpe_legacy.caffe.load import read_message
from rmpe_legacy.caffe.proto.dialects import AUTO, BASES, MIXED, dialects, forks
from rmpe_legacy.caffe.proto.protobuf import caffe_pb2
from rmpe_legacy.caffe.proto.schema import load_schema
from rmpe_legacy.caffe.proto.text import parse_text, read_text
from rmpe_legacy.caffe.proto.upgrade import upgrade_net
from rmpe_legacy.cli import main

INPUT = 'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 4 dim: 6 dim: 6 } } }\n'


@pytest.fixture
def path(tmp_path: Path):
    def write(text: str) -> Path:
        file = tmp_path / "net.prototxt"
        file.write_text(INPUT + text)
        return file

    return write


class TestSchema:
    @pytest.mark.parametrize("name", dialects())
    def test_is_one_that_protobuf_accepts(self, name: str):
        assert caffe_pb2(name).NetParameter is not None

    @pytest.mark.parametrize("name", forks())
    def test_says_where_it_comes_from(self, name: str):
        fork = forks()[name]
        assert re.fullmatch(r"[\w.-]+/[\w.-]+@[0-9a-f]{40}", fork.repository)
        assert fork.base in BASES
        assert fork.types or fork.lines
        assert fork.title

    def test_a_fork_has_its_base_and_what_it_adds(self):
        rcnn, base = load_schema("rcnn"), load_schema("bvlc")
        assert rcnn["LayerParameter"].fields["roi_pooling_param"].number == 8266711
        assert rcnn["ROIPoolingParameter"].fields["spatial_scale"].default == 1.0
        assert base["ConvolutionParameter"].fields.keys() == rcnn["ConvolutionParameter"].fields.keys()
        assert "roi_pooling_param" not in base["LayerParameter"].fields

    def test_where_two_claim_a_number_the_fork_has_it(self):
        """NVIDIA's recurrent_param and the base's debug are both 149, in another place each."""
        fields = load_schema("cascade-rcnn")["LayerParameter"].fields
        assert fields["detection_data_param"].number == 151
        numbers = [field.number for field in fields.values()]
        assert len(numbers) == len(set(numbers))

    def test_mixed_knows_all_that_any_of_them_knows(self):
        mixed = load_schema(MIXED)
        for name in (*BASES, *forks()):
            for message in load_schema(name).messages.values():
                assert message.fields.keys() <= mixed[message.name].fields.keys(), (name, message.name)

    def test_a_messages_own_enum_goes_before_one_of_that_name_outside(self):
        assert "ORIGIN" in load_schema(MIXED)["FocalLossParameter"].fields["type"].enum.numbers
        assert "FLOAT16" in load_schema(MIXED)["LayerParameter"].fields["forward_type"].enum.numbers

    def test_in_mixed_a_field_that_forks_give_two_messages_has_the_fields_of_both(self):
        names = load_schema(MIXED)["LayerParameter"].fields["ctc_loss_param"].message.fields.keys()
        assert names >= {"blank_label", "alphabet_size", "time_step", "blank_index", "output_delay"}

    def test_a_name_that_is_none_is_a_sentence(self):
        with pytest.raises(RmpeError, match="no dialect 'cafe'; choose one of 'auto', 'rmpe', 'ssd', 'bvlc', or of "
                                            "the forks' that `rmpe dialects` lists"):
            load_schema("cafe")


class TestTypes:
    @pytest.mark.parametrize("name", forks())
    def test_each_has_a_class(self, name: str):
        schema = load_schema(name)
        for type_name, own in forks()[name].types.items():
            assert registry.forms_in(type_name, schema) == own
            assert all((type_name, form) in registry._FORMS or (not form and type_name in registry._LAYERS)
                       for form in own)

    def test_each_class_is_in_a_fork(self):
        listed = {(name, form) for fork in forks().values() for name, forms in fork.types.items() for form in forms}
        assert {key for key in registry._FORMS if key not in listed} == set()

    def test_what_has_several_forms_has_a_function_that_chooses(self):
        forms = load_schema(MIXED).types
        several = {name for name, own in forms.items() if len(registry.forms_in(name, load_schema(MIXED))) > 1}
        assert several - set(registry._CHOOSERS) == set()
        assert set(registry._CHOOSERS) - several == set()


SERVED = [  # a layer -> the dialect that auto reads it in
    ("ReLU", "", "rmpe"),
    ("Swish", "", "bvlc"),
    ("ROIPooling", "roi_pooling_param { pooled_h: 2 pooled_w: 2 }", "fast-rcnn"),
    ("ROIPooling", "roi_pooling_param { pooled_h: 2 pooled_w: 2 pad_ratio: 0.1 }", "cascade-rcnn"),
    ("ROIPooling", "roi_pooling_param { pooled_size: 2 }", "intel"),
    ("Pooling", "pooling_param { kernel_size: 2 ceil_mode: false }", "cascade-rcnn"),
    ("BN", "bn_param { scale_filler { value: 1 } }", "segnet"),
    ("Upsample", "upsample_param { scale: 2 }", "mobilenet-yolo"),
    ("Interp", "interp_param { zoom_factor: 2 shrink_factor: 2 }", "trained-dilation"),
    ("ShuffleChannel", "shuffle_channel_param { group: 2 }", "shufflenet"),
]


class TestAuto:
    @pytest.mark.parametrize(("kind", "text", "dialect"), SERVED, ids=[f"{k}-{d}" for k, _, d in SERVED])
    def test_is_the_first_that_knows_everything(self, path, kind: str, text: str, dialect: str):
        bottoms = "x rois" if kind == "ROIPooling" else "x"
        rois = 'layer { name: "r" type: "Input" top: "rois" input_param { shape { dim: 1 dim: 5 } } }'
        message = read_message(path(rois + layer(kind, bottoms, "y", text)))
        assert message.dialect == dialect
        assert not list(message.message.unknowns())

    def test_without_a_single_one_it_is_mixed_and_says_so(self, path):
        file = path(layer("ShuffleChannel", "x", "y", "shuffle_channel_param { group: 2 }", "a")
                    + layer("Upsample", "y", "z", "upsample_param { scale: 2 }", "b"))
        with pytest.warns(UserWarning, match="no single dialect knows everything in it.*'mixed'"):
            net = load_net(file)
        assert net.dialect == MIXED
        assert net.steps[-1].top_shapes == ((2, 4, 12, 12),)

    def test_in_mixed_a_proposals_stride_is_that_of_the_forks_with_this_layer(self, path):
        """frcnn has a message of the same name, whose feat_stride is 0 unless given."""
        shapes = {"score": (1, 2, 3, 2), "moves": (1, 4, 3, 2), "info": (1, 4)}
        inputs = "".join(f'layer {{ name: "{name}" type: "Input" top: "{name}" input_param {{ shape {{ '
                         f'{" ".join(f"dim: {n}" for n in shape)} }} }} }}\n' for name, shape in shapes.items())
        file = path(layer("ShuffleChannel", "x", "y", "shuffle_channel_param { group: 2 }", "a")
                    + layer("Upsample", "y", "z", "upsample_param { scale: 2 }", "b") + inputs
                    + 'layer { name: "p" type: "Proposal" bottom: "score" bottom: "moves" bottom: "info" top: "rois" '
                      "proposal_param { ratio: 1 scale: 8 } }")
        with pytest.warns(UserWarning, match="no single dialect knows everything"):
            net = load_net(file)
        assert net.dialect == MIXED
        assert net.steps[-1].layer.stride == 16

    def deformable(self, path, more: str = ""):
        """A network of several forks, with a DeformableConvolution that leaves deformable_group and group open."""
        kernel = "kernel_size: 3"
        return path(layer("ShuffleChannel", "x", "s", "shuffle_channel_param { group: 2 }", "s")
                    + layer("Upsample", "s", "u", "upsample_param { scale: 2 }", "u")
                    + layer("Convolution", "x", "o", f"convolution_param {{ num_output: 72 {kernel} }}", "o")
                    + layer("Convolution", "x", "k", f"convolution_param {{ num_output: 9 {kernel} }}", "k")
                    + layer("DeformableConvolution", "x o", "d",
                            f"deformable_convolution_param {{ num_output: 4 {kernel} }}", "d") + more)

    def test_in_mixed_a_default_of_which_forks_differ_is_named(self, path):
        with pytest.warns(UserWarning, match="."):
            net = load_net(self.deformable(path))
        assert net.dialect == MIXED
        assert any(note.endswith("deformable_group is not set, and forks differ in its default: 4 in deformable, "
                                 "deformable-rfcn, frcnn; 1 in deformable-v2; it is 4 here; set it if another is meant")
                   for note in net.notes)

    def test_in_mixed_the_fork_that_alone_has_other_fields_gives_the_default(self, path):
        more = layer("Convolution", "x", "p", "convolution_param { num_output: 18 kernel_size: 3 }", "p")
        more += layer("ModulatedDeformableConvolution", "x p k", "m", "modulated_deformable_convolution_param { "
                      "num_output: 4 kernel_size: 3 }", "m")
        file = self.deformable(path, more)
        file.write_text(file.read_text().replace("num_output: 72", "num_output: 18"))
        with pytest.warns(UserWarning, match="."):
            net = load_net(file)
        assert any("it is 1 here, as other fields of the file are those of deformable-v2 alone" in note
                   for note in net.notes)
        step = next(step for step in net.steps if step.layer.spec.name == "d")
        assert step.layer.spec.get("deformable_convolution_param").deformable_group == 1

    def test_in_mixed_only_forks_that_have_the_layer_give_its_defaults(self, path):
        """Of the forks that have UpsampleParameter, only mobilenet-yolo has an Upsample without a mask."""
        file = path(layer("ShuffleChannel", "x", "s", "shuffle_channel_param { group: 2 }", "s")
                    + layer("Upsample", "s", "u", "upsample_param { }", "u"))
        with pytest.warns(UserWarning, match="no single dialect") as caught:
            load_net(file)
        assert not [w for w in caught if "differ in its default" in str(w.message)]

    def test_what_no_dialect_knows_is_refused_with_its_place(self, path):
        with pytest.raises(RmpeError, match=r"net.prototxt:2:53: LayerParameter has no field 'odd_param'"):
            load_net(path('layer { name: "a" type: "ReLU" bottom: "x" top: "y" odd_param { a: 1 } }'))

    def test_a_field_of_another_type_is_another_dialects(self, path):
        """yolov2's quantization_param has single numbers where Intel's has lists."""
        text = layer("ReLU", "x", "y", "quantization_param { scale_in: 1 scale_in: 2 }")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert load_net(path(text)).dialect == "intel"

    def test_a_list_where_others_take_one_value_is_another_dialects(self, path):
        text = layer("Pooling", "x", "y", "pooling_param { pool: AVE kernel_size: [2, 3] stride: [2, 1] }")
        net = load_net(path(text))
        assert net.dialect in ("greentea", "r-c3d", "tsn-3d")
        assert net.steps[-1].layer.kernel == (2, 3)
        with pytest.raises(RmpeError, match="kernel_size is a whole number"):
            load_net(path(text), dialect="rmpe")

    @pytest.mark.parametrize("dialect", ["happynear", "training-toolbox"])
    def test_a_margin_that_stays_is_the_same_in_both_dialects(self, path, dialect: str):
        text = ('layer { name: "label" type: "Input" top: "label" input_param { shape { dim: 2 } } } '
                + layer("LabelSpecificAdd", "x label", "y", "label_specific_add_param { bias: -0.5 }"))
        net = load_net(path(text), phase="TRAIN", dialect=dialect)
        top = net(x=torch.ones(2, 4, 1, 1), label=torch.tensor([2.0, 0]))["y"]
        assert top.flatten(1).tolist() == [[1, 1, 0.5, 1], [0.5, 1, 1, 1]]

    def test_a_list_that_no_dialect_takes_is_refused(self, path):
        with pytest.raises(RmpeError, match=r"is a whole number|is given twice"):
            load_net(path(layer("Pooling", "x", "y", "pooling_param { kernel_size: 2 kernel_h: [2, 3] }")))

    def test_what_is_in_doubt_is_said(self, path):
        with pytest.warns(UserWarning, match=r"layer \(BN\): dialect '(tsn|pspnet)' was chosen; .*'happynear'"):
            net = load_net(path(layer("BN", "x", "y", "bn_param { momentum: 0.9 }")))
        assert [name for name, _ in net.named_parameters()][-1].endswith("moving_variance")
        net = load_net(path(layer("BN", "x", "y", "bn_param { momentum: 0.9 }")), dialect="happynear")
        assert [name for name, _ in net.named_parameters()][-1].endswith("moving_inverse_std")
        assert net.notes == ()

    def test_boxes_beside_a_text_detectors_masks_are_sstds(self, path):
        text = (layer("MaskResize", "x", "m", "mask_resize_param { output_height: 3 output_width: 3 }", "m")
                + layer("PriorBox", "x x", "y", "prior_box_param { min_size: 2 aspect_ratio: 2 aspect_ratio: 0.5 "
                        "flip: true clip: false step: 1 }"))
        net = load_net(path(text))
        assert net.dialect == "sstd"
        assert net.steps[-1].top_shapes[0][2] == 6 * 6 * 5 * 4  # each ratio and its inverse, though they are the same

    def test_a_dialect_that_has_the_other_form_leaves_no_doubt(self, path):
        text = layer("BN", "x", "y", "bn_param { momentum: 0.9 }") + "richness: 10"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            net = load_net(path(text))
        assert net.dialect == "dgd"
        assert [name for name, _ in net.named_parameters()][-1].endswith("moving_inverse_std")
        assert not any("(BN)" in note for note in net.notes)

    def test_coordinates_or_a_flow(self, path):
        shape = "input_param { shape { dim: 2 dim: 2 dim: 6 dim: 6 } }"
        text = f'layer {{ name: "z" type: "Input" top: "z" {shape} }}\n' + layer("Warp", "x z", "y")
        with pytest.warns(UserWarning, match=r"layer \(Warp\): dialect 'pwc-net' was chosen; .*'liteflownet'"):
            flow = load_net(path(text))
        coordinates = load_net(path(text), dialect="liteflownet")
        x, zero = torch.arange(288.0).view(2, 4, 6, 6), torch.zeros(2, 2, 6, 6)
        assert torch.equal(flow(x=x, z=zero)["y"], x)
        assert torch.equal(coordinates(x=x, z=zero)["y"], x[:, :, :1, :1].expand(-1, -1, 6, 6))

    def test_a_dilation_for_each_side(self, path):
        """Temporal segment networks' dilation_h and dilation_w are dilation given twice."""
        own = "num_output: 2 kernel_size: 2 weight_filler { type: 'xavier' }"
        text = layer("Convolution", "x", "y", f"convolution_param {{ {own} dilation_h: 3 dilation_w: 2 }}")
        net = load_net(path(text), dialect="tsn")
        same = load_net(path(layer("Convolution", "x", "y", f"convolution_param {{ {own} dilation: 3 dilation: 2 }}")))
        same.load_state_dict(net.state_dict())
        x = torch.rand(2, 4, 6, 6, generator=torch.Generator().manual_seed(1))
        assert net(x=x)["y"].shape == (2, 2, 3, 4)
        assert torch.equal(net(x=x)["y"], same(x=x)["y"])

    def test_images_without_a_source_have_the_size_of_a_forks_crop(self, path):
        data = ('layer { name: "d" type: "Data" top: "d" data_param { source: "absent" batch_size: 3 } '
                "transform_param { crop_height: 14 crop_width: 5 } }")
        assert load_net(path(data)).steps[-1].top_shapes == ((3, 3, 14, 5),)

    def test_a_prior_box_without_clip(self, path):
        text = layer("PriorBox", "x x", "y", "prior_box_param { min_size: 2 }")
        with pytest.warns(UserWarning, match="does not set clip, which is true in dialect 'rmpe' and false in 'ssd'"):
            assert load_net(path(text)).dialect == "rmpe"
        assert load_net(path(text.replace("min_size: 2", "min_size: 2 clip: true"))).notes == ()

    def test_show_prints_it(self, path):
        text = describe_net(str(path(layer("ShuffleChannel", "x", "y", "shuffle_channel_param { group: 2 }")))).text
        assert "dialect: shufflenet (farmingyard/ShuffleNet@b9624442" in text

    def test_a_users_own_layer_goes_before_a_forks(self, path):
        from rmpe_legacy import Layer, register

        @register("Axpy")
        class Own(Layer):
            pass

        try:
            assert load_net(path(layer("Axpy", "x", "y"))).dialect == "rmpe"
        finally:
            registry._LAYERS.pop("Axpy")

    @pytest.mark.slow
    def test_networks_of_the_paper_are_the_papers(self):
        for file in sorted((ROOT / "prototxt").rglob("*.prototxt")):
            if "layer" in file.read_text():
                reading = read_network(file, AUTO, True, lambda net: ())
                assert reading.dialect == "rmpe", file


    @pytest.mark.parametrize(("size", "most"), [(1 << 20, 3), (1 << 17, 14)])
    def test_a_large_file_is_read_in_few_dialects(self, path, monkeypatch, size: int, most: int):
        """Each reading takes time, and a file from elsewhere must not be able to ask for forty."""
        readings = []
        monkeypatch.setattr("rmpe_legacy.caffe.choose_dialect.read_text",
                            lambda *args, **options: readings.append(args[2]) or read_text(*args, **options))
        pool = layer("Pooling", "x", "y", "pooling_param { kernel_size: 2 ceil_mode: true }")
        file = path(pool + layer("NoSuchType", "y", "z", "") + "#" * size)
        with pytest.raises(RmpeError, match="NoSuchType"):
            load_net(file)
        assert readings[0] == "rmpe"
        assert readings[-1] == MIXED
        assert 3 <= len(readings) <= most


class TestEffects:
    def test_fields_without_effect_are_named_once(self, path):
        text = layer("ReLU", "x", "y", "forward_type: FLOAT16 backward_type: FLOAT16", "a")
        with pytest.warns(UserWarning, match=r"number here: .*\.forward_type, LayerParameter\.backward_type") as told:
            net = load_net(path(text))
        assert net.dialect == "nvidia"
        assert len(told) == 1

    def test_a_field_that_is_not_honoured_is_refused_unless_it_is_at_its_default(self, path):
        conv = "convolution_param {{ num_output: 1 kernel_size: 1 relu: {} }}"
        with pytest.raises(RmpeError, match=r"ConvolutionParameter\.relu of the fork's layer is not supported"):
            load_net(path(layer("Convolution", "x", "y", conv.format("true"))))
        assert load_net(path(layer("Convolution", "x", "y", conv.format("false")))).dialect == "intel"

    def test_a_data_layer_of_a_fork_is_fed(self, tmp_path: Path):
        file = tmp_path / "net.prototxt"
        file.write_text('layer { name: "d" type: "Data" top: "data" data_param { source: "no" batch_size: 2 '
                        'shuffle: true side: 7 } transform_param { crop_size: 4 } }')
        net = load_net(file)
        assert net.steps[0].top_shapes == ((2, 3, 4, 4),)
        assert net(data=torch.ones(2, 3, 4, 4))["data"].shape == (2, 3, 4, 4)

    @pytest.mark.parametrize(("layer", "dialect", "shapes"), [
        ('type: "CPMData" data_param { batch_size: 3 } '
         "cpm_transform_param { stride: 8 crop_size_x: 184 crop_size_y: 96 num_parts: 56 }",
         "cpm", ((3, 4, 96, 184), (3, 114, 12, 23))),
        ('type: "MemoryData" memory_data_param { source: "x" batch_size: 2 channels: 3 height: 5 width: 6 }',
         "caffeonspark", ((2, 3, 5, 6), (2,))),
    ])
    def test_a_fed_layer_has_the_shapes_that_its_text_tells(self, tmp_path: Path, layer: str, dialect: str, shapes):
        path = tmp_path / "net.prototxt"
        path.write_text(f'layer {{ name: "in" top: "data" top: "label" {layer} }}')
        net = load_net(path)
        assert (net.dialect, net.steps[0].top_shapes) == (dialect, shapes)
        fed = {name: torch.ones(shape) for name, shape in zip(("data", "label"), shapes, strict=True)}
        assert net(fed).keys() == {"data", "label"}
        with pytest.raises(RmpeError, match=r"tops instead: net\(data=\.\.\., label=\.\.\.\)"):
            net()

    def test_a_layer_that_can_only_be_fed_says_how(self, tmp_path: Path):
        param = 'dense_image_data_param { source: "a" batch_size: 2 }'
        net = net_of(layer("DenseImageData", "", "data label", param), {}, dialect="auto")
        assert net.steps[0].top_shapes == ((2, 3, 360, 480), (2, 1, 360, 480))
        with pytest.raises(RmpeError, match=r"pass its tops instead: net\(data=..., label=...\)"):
            net()


class TestCommand:
    def test_lists_them(self, capsys):
        assert main(["dialects"]) == 0
        out = capsys.readouterr().out
        for name, dialect in dialects().items():
            base = re.escape(dialect.title if name == dialect.base else f"{dialect.base};")
            assert re.search(rf"^{re.escape(name)}  .*  {base}", out, re.M), name
        assert re.search(r"^rcnn +rbgirshick/caffe-fast-rcnn +bvlc; 7 fields; ", out, re.M)

    def test_shows_one(self, capsys):
        assert main(["dialects", "rcnn"]) == 0
        out = capsys.readouterr().out
        assert "layer types: ROIPooling=rcnn SmoothL1Loss=rcnn" in out
        assert "8266711 roi_pooling_param ROIPoolingParameter" in out

    def test_as_json(self, capsys):
        assert main(["dialects", "--json"]) == 0
        rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
        assert rows.keys() == dialects().keys()
        assert rows["rcnn"]["types"] == ["ROIPooling=rcnn", "SmoothL1Loss=rcnn"]
        assert rows["rmpe"]["fields"] == 0 < rows["intel"]["fields"] < rows[MIXED]["fields"]

    def test_an_unknown_one_is_a_sentence(self, capsys):
        assert main(["dialects", "rcn"]) == 1
        assert "rmpe: no dialect 'rcn'; did you mean 'rcnn'?" in capsys.readouterr().err


class TestPage:
    def test_is_what_the_tool_writes(self, monkeypatch):
        monkeypatch.syspath_prepend(ROOT / "tools")
        import make_forks_page

        text = make_forks_page.PAGE.read_text("utf-8")
        assert text == make_forks_page.page(text), "run tools/make_forks_page.py"

    def test_names_the_python_layers_that_are_built_in(self):
        text = (ROOT / "docs" / "forks.md").read_text("utf-8")
        for module, name in known_names():
            assert f"`{module}`" in text
            assert f"`{name}`" in text or name.endswith("SegDataLayer")


def test_the_older_formats_name_types_of_forks():
    text = 'layers { name: "a" type: BN bottom: "x" top: "y" bn_param { bn_mode: LEARN } }'
    net = parse_text(text, dialect="deconvnet")
    assert net.layers[0].type == "BN"
    assert not list(net.unknowns())
    assert upgrade_net(net).layer[0].type == "BN"


def test_data_layers_load_where_a_fork_repeats_resize_param(path):
    """MobileNet-YOLO's resize_param is a list; a Data layer without one is read as in its base."""
    net = path('layer { name: "d" type: "Data" top: "data" data_param { source: "images_lmdb" batch_size: 2 } '
               'transform_param { crop_size: 4 } }')
    step = next(step for step in load_net(net, dialect="mobilenet-yolo", phase="TRAIN").steps if step.top == ("data",))
    assert step.top_shapes == ((2, 3, 4, 4),)


def test_a_scale_of_one_bottom_is_not_transfernets(path):
    """Beside Unpooling and ReLU, the dialect was TransferNet's, whose Scale needs scale_factor or two bottoms."""
    file = path(layer("Pooling", "x", "p m", "pooling_param { pool: MAX kernel_size: 2 stride: 2 }", "p")
                + layer("ReLU", "p", "p", "", "r")
                + layer("Unpooling", "p m", "u",
                        "unpooling_param { unpool: MAX kernel_size: 2 stride: 2 unpool_size: 6 }", "u")
                + layer("Scale", "u", "y", "scale_param { filler { value: 255 } }", "s"))
    assert load_net(file)(x=torch.ones(2, 4, 6, 6))["y"].max() == 255


@pytest.mark.parametrize(("kind", "tops", "shapes"), [
    ("FloData", 'top: "y"', ((4, 2, 256, 256),)),
    ("ImageData", 'top: "y"', ((4, 3, 256, 256),)),
])
def test_flownets_data_layers_can_be_fed(tmp_path: Path, kind: str, tops: str, shapes: tuple):
    path = tmp_path / "net.prototxt"
    path.write_text(f'layer {{ name: "d" type: "{kind}" {tops} '
                    'image_data_param { source: "list.txt" root_folder: "./" batch_size: 4 } }')
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = load_net(path)
    assert net.dialect == "flownet"
    assert net.steps[0].top_shapes == shapes


def test_a_parameter_learns_or_not_as_its_own_field_says(tmp_path: Path):
    """caffe/param_down/net.cpp of longriyao/caffe_colorizer@ee73fce"""
    path = tmp_path / "net.prototxt"
    path.write_text('layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 dim: 3 } } }\n'
                    'layer { name: "a" type: "InnerProduct" bottom: "x" top: "y" inner_product_param { num_output: 2 }'
                    " param { lr_mult: 0 param_propagate_down: true } param { param_propagate_down: false } }\n")
    assert [p.requires_grad for p in load_net(path).parameters()] == [True, False]


def test_losses_of_one_name_each_have_a_top(tmp_path: Path):
    path = tmp_path / "net.prototxt"
    loss = 'layer { name: "loss" type: "EuclideanLoss" bottom: "a" bottom: "a" }\n'
    path.write_text('layer { name: "a" type: "Input" top: "a" input_param { shape { dim: 1 dim: 3 } } }\n' + loss * 2)
    assert len({step.top for step in load_net(path).steps[1:]}) == 3
