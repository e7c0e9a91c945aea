"""load_net: unknown things strict and lenient, layers of one's own, weights that do not fit."""

import sys
import time
import warnings
from typing import ClassVar

import pytest
import torch
from google.protobuf import text_format

from rmpe_legacy import Layer, RmpeError, load_net, register
from rmpe_legacy.caffe.layers import registry
from rmpe_legacy.caffe.load import parse_net
from rmpe_legacy.caffe.proto.protobuf import caffe_pb2
from rmpe_legacy.caffe.proto.text import parse_text

INPUT = 'layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }\n'
IP = 'layer { name: "ip" type: "InnerProduct" bottom: "x" top: "y" inner_product_param { num_output: 4 } }\n'
UNKNOWN = """\
layer { name: "a" type: "ReLU" bottom: "y" top: "a" extra: 3 relu_param { engine: FAST } }
layer { name: "b" type: "Quad" bottom: "y" top: "b" quad_param { beta: 2 } }
layer { name: "c" type: "ReLU" bottom: "b" top: "c" }
layer { name: "d" type: "Quad" bottom: "a" top: "a" }
layer { name: "e" type: "TanH" bottom: "a" top: "e" }
layer { name: "f" type: "TanH" bottom: "y" top: "f" }
"""


@pytest.fixture
def path(tmp_path):
    def write(text: str, name: str = "net.prototxt"):
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return write


class TestUnknown:
    def test_strict_lists_everything_with_its_line(self, path):
        with pytest.raises(RmpeError) as caught:
            load_net(path(INPUT + IP + UNKNOWN))
        head, *lines = str(caught.value).split("\n")
        assert "5 fields or layers are not known" in head
        assert [line.split(": ", 1)[1].split(";")[0] for line in lines] == [
            "LayerParameter has no field 'extra'",
            "ReLUParameter.engine has no value FAST",
            "LayerParameter has no field 'quad_param'",
            "b (Quad): unknown layer type (2 times)",
        ]
        assert [line.split(":")[1] for line in lines] == ["3", "3", "4", "4"]

    def test_a_kind_is_one_line_with_a_count_and_the_first_place(self, path):
        layers = "".join(f'layer {{ name: "a{i}" type: "Bxpy" bottom: "x" top: "t{i}" bxpy_param {{ k: {i} }} }}\n'
                         for i in range(50))
        convs = "".join(f'layer {{ name: "r{i}" type: "ReLU" bottom: "x" top: "r{i}" relu_param {{ fast: 1 }} }}\n'
                        for i in range(30))
        with pytest.raises(RmpeError) as caught:
            load_net(path(INPUT + layers + convs))
        head, *lines = str(caught.value).split("\n")
        assert "130 fields or layers are not known" in head
        assert [line.partition("net.prototxt")[2] for line in lines] == [
            ":2:55: LayerParameter has no field 'bxpy_param' (50 times)",
            ":52:68: ReLUParameter has no field 'fast' (30 times)",
            ":2:1: a0 (Bxpy): unknown layer type (50 times)",
        ]

    def test_the_list_of_kinds_ends(self, path):
        fields = " ".join(f"field_{chr(97 + i // 26)}{chr(97 + i % 26)}: 1" for i in range(400))
        with pytest.raises(RmpeError) as caught:
            load_net(path(INPUT + f'layer {{ name: "r" type: "ReLU" bottom: "x" top: "y" {fields} }}'))
        lines = str(caught.value).split("\n")
        assert len(lines) == 41
        assert lines[-1].strip() == "... and 361 more kinds"

    def test_lenient_computes_what_it_can_and_says_what_not(self, path):
        with pytest.warns(UserWarning, match="left out"):
            net = load_net(path(INPUT + IP + UNKNOWN), strict=False)
        assert net.outputs == ("f",), "what an unknown layer writes, in place too, is not computed"
        assert net(x=torch.ones(2, 3))["f"].shape == (2, 4)
        assert len(net.left_out.fields) == 3
        assert [s.split(": ", 1)[1].split(";")[0] for s in net.left_out.layers] == [
            "b (Quad): unknown layer type",
            "c (ReLU): needs b, which is left out",
            "d (Quad): unknown layer type",
            "e (TanH): needs d, which is left out",
        ]

    def test_nothing_left_to_compute(self, path):
        with pytest.raises(RmpeError, match=r"1 field or layer is left out, and no layer can be computed without "
                                            r"them:\n"
                           r".*net.prototxt:1:1: b \(Quad\): unknown layer type"):
            load_net(path('layer { name: "b" type: "Quad" }'), strict=False)

    def test_what_depends_on_left_out_layers_is_one_line(self, path):
        chain = "".join(f'layer {{ name: "c{i}" type: "ReLU" bottom: "{f"c{i - 1}" if i else "b"}" top: "c{i}" }}\n'
                        for i in range(20))
        with pytest.warns(UserWarning, match="left out") as caught:
            net = load_net(path(INPUT + IP + 'layer { name: "b" type: "Quad" bottom: "y" top: "b" }\n' + chain),
                           strict=False)
        lines = str(caught[0].message).split("\n")
        assert lines[2].endswith("c0 (ReLU): needs b, which is left out (20 times)")
        assert len(lines) == 3
        assert len(net.left_out.layers) == 21, "a program finds each"

    def test_the_network_in_a_solver_is_taken(self, path):
        file = path('base_lr: 0.1 # net_param {\nsnapshot_prefix: "net_param {"\nnet_param {\n' + INPUT + IP + "}\n")
        assert [step.layer.spec.type for step in load_net(file).steps] == ["Input", "InnerProduct"]
        with pytest.raises(RmpeError, match=r"net\.prototxt:4:15: "):
            load_net(path("net_param {\n" + INPUT + "\nlayer { name: 5 } }"))

    @pytest.mark.parametrize(("text", "words"), [
        ('net: "train_val.prototxt" base_lr: 0.01 lr_policy: "step" max_iter: 9 solver_mode: GPU',
         "net.prototxt: is a solver, not a network; give the network that it names, train_val.prototxt"),
        ('net: "n.prototxt" base_lr: 0.01 some_forks_field: 1', "is a solver, not a network; give the network that"),
        ('train_net: "a.prototxt" test_net: "b.prototxt" momentum: 0.9',
         "is a solver, not a network; give the network that it names, a.prototxt or b.prototxt"),
        ('item { name: "person" label: 1 display_name: "person" }', "is a label map, not a network"),
    ])
    @pytest.mark.parametrize("strict", [True, False])
    def test_another_file_of_caffes_is_called_by_its_name(self, path, text, words, strict):
        with pytest.raises(RmpeError) as caught:
            load_net(path(text), strict=strict)
        assert words in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_of_another_dialect_it_says_which(self, path):
        text = INPUT + 'layer { name: "p" type: "PriorBox" bottom: "x" top: "p" prior_box_param { step: 8 } }'
        with pytest.raises(RmpeError, match="has no field 'step'; dialect 'ssd' has it"):
            load_net(path(text), dialect="rmpe")


@pytest.mark.parametrize(("text", "words"), [
    (INPUT + 'layers { name: "r" type: RELU bottom: "x" top: "y" }',
     "net.prototxt:2:1: layers { ... } is the old format, and %s/net.prototxt:1:1 has layer { ... }, the current one; "
     "convert them to one format by hand"),
    ('layers { layer { name: "r" type: "relu" } top: "x" } layers { name: "s" type: SIGMOID bottom: "x" top: "y" }',
     "net.prototxt:1:54: s (SIGMOID): is in the V1 format, but other layers are in the V0 format"),
    (INPUT + 'layer { name: "r" type: RELU bottom: "x" top: "y" }', 'write it in quotes: type: "ReLU"'),
    (INPUT + 'layer { name: "c" type: "conv" bottom: "x" top: "y" }', "layer type; did you mean 'Convolution'?"),
    (INPUT + 'layer { name: "c" type: "SOFTMAX_LOSS" bottom: "x" top: "y" }', "did you mean 'SoftmaxWithLoss'?"),
    ('layers { layer { name: "r" type: "softmaxx" } top: "x" }', "r (softmaxx): not a layer type of the V0 format"),
])
def test_formats_that_are_mixed(path, tmp_path, text, words):
    with pytest.raises(RmpeError) as caught:
        load_net(path(text))
    assert words.replace("%s", str(tmp_path)) in str(caught.value)


DETECTION = """
layer { name: "i" type: "Input" top: "loc" top: "conf" top: "prior" input_param {
  shape { dim: 1 dim: 8 } shape { dim: 1 dim: 4 } shape { dim: 1 dim: 2 dim: 8 } } }
layer { name: "out" type: "DetectionOutput" bottom: "loc" bottom: "conf" bottom: "prior" top: "out"
  detection_output_param { num_classes: 2 %s } }
"""


class TestLenientGoesOn:
    """strict=False does not stop at what can be left out, and tells what a left-out field may have changed."""

    @pytest.mark.parametrize(("options", "words"), [
        ("visualize: true", "visualize: true would open a window"),
        ('save_output_param { output_directory: "out" label_map_file: "not/there.prototxt" name_size_file: "n.txt" }',
         "cannot read label_map_file: not/there.prototxt: No such file or directory"),
    ])
    def test_options_that_change_no_blob(self, path, tmp_path, monkeypatch, options, words):
        monkeypatch.chdir(tmp_path)
        values = {"loc": torch.zeros(1, 8), "conf": torch.tensor([[0.1, 0.9, 0.2, 0.8]]),
                  "prior": torch.tensor([0.1, 0.1, 0.5, 0.5, 0.2, 0.2, 0.6, 0.6] + [0.1] * 8).view(1, 2, 8)}
        with pytest.raises(RmpeError, match=words):
            load_net(path(DETECTION % options))(values)
        with pytest.warns(UserWarning, match=words):
            net = load_net(path(DETECTION % options), strict=False)
        assert [words in sentence for sentence in net.left_out.fields] == [True]
        plain = load_net(path(DETECTION % ""))
        assert torch.equal(net(values)["out"], plain(values)["out"])
        assert not (tmp_path / "out").exists()

    def test_a_further_value_of_a_field_that_takes_one(self, path):
        twice = "num_output: 4 num_output: 5 weight_filler { } weight_filler { value: 1 }"
        text = INPUT + IP.replace("num_output: 4", twice)
        with pytest.raises(RmpeError, match="num_output is given twice, but takes one value"):
            load_net(path(text))
        with pytest.warns(UserWarning, match="num_output is given again, but takes one value; the first one is used"):
            net = load_net(path(text), strict=False)
        assert net(torch.ones(2, 3))["y"].tolist() == [[0.0] * 4] * 2
        assert len(net.left_out.fields) == 2

    def test_a_layer_that_only_evaluates_and_lacks_its_file(self, path, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        text = DETECTION % "" + """
layer { name: "gt" type: "Input" top: "gt" input_param { shape { dim: 1 dim: 1 dim: 2 dim: 8 } } }
layer { name: "eval" type: "DetectionEvaluate" bottom: "out" bottom: "gt" top: "eval"
  detection_evaluate_param { num_classes: 2 name_size_file: "not/there.txt" } }"""
        words = r"eval \(DetectionEvaluate\): cannot read name_size_file not/there.txt: No such file or directory"
        net = load_net(path(text))
        with pytest.raises(RmpeError, match=words):
            net({name: torch.zeros(shape) for name, shape in net.inputs.items()})
        with pytest.warns(UserWarning, match=words):
            net = load_net(path(text), strict=False)
        assert net.outputs == ("gt", "out")

    @pytest.mark.parametrize(("text", "top"), [
        ('layer { name: "p" type: "PredictionHeatmap" bottom: "x" top: "p" visualise: true '
         'prediction_heatmap_param { num_joints: 3 } }', "p"),
        ('layer { name: "e" type: "EuclideanLossHeatmap" bottom: "x" bottom: "x" bottom: "x" top: "e" '
         'visualise: true }', "e"),
    ])
    def test_windows_are_not_opened(self, path, text, top):
        text = INPUT.replace("dim: 2 dim: 3", "dim: 2 dim: 3 dim: 4 dim: 4") + text
        with pytest.raises(RmpeError, match="visualise: true opens windows"):
            load_net(path(text))
        with pytest.warns(UserWarning, match="visualise: true opens windows"):
            net = load_net(path(text), strict=False)
        for batch in (2, 3):
            net(x=torch.ones(batch, 3, 4, 4))
        assert net.outputs == (top,)
        assert len(net.left_out.fields) == 1

    def test_a_layer_with_an_unknown_value_is_left_out(self, path):
        text = INPUT + IP + ('layer { name: "p" type: "Eltwise" bottom: "x" bottom: "x" top: "p" '
                             'eltwise_param { operation: MEAN } }\n'
                             'layer { name: "q" type: "Pooling" bottom: "x" top: "q" pooling_param { pool: SUM } }\n'
                             'layer { name: "r" type: "ReLU" bottom: "q" top: "r" }')
        with pytest.warns(UserWarning, match="left out"):
            net = load_net(path(text), strict=False)
        assert net.outputs == ("y",)
        assert [s.split(": ", 1)[1] for s in net.left_out.layers] == [
            "p (Eltwise): EltwiseParameter.operation has no value MEAN",
            "q (Pooling): PoolingParameter.pool has no value SUM",
            "r (ReLU): needs q, which is left out"]

    CEIL = """\
layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 1 dim: 2 dim: 6 dim: 6 } } }
layer { name: "p" type: "Pooling" bottom: "x" top: "p" pooling_param { kernel_size: 3 stride: 2 ceil_mode: false } }
layer { name: "r" type: "ReLU" bottom: "p" top: "p" }
layer { name: "c" type: "Convolution" bottom: "x" top: "c"
  convolution_param { num_output: 2 kernel_size: 3 stride: 2 } }
layer { name: "e" type: "Eltwise" bottom: "p" bottom: "c" top: "e" }
"""

    def test_a_later_layer_that_fails_names_the_field_that_was_left_out(self, path):
        with pytest.warns(UserWarning, match="left out"):
            net = load_net(path(self.CEIL), strict=False, dialect="rmpe")
        said = net.left_out.layers[0]
        assert said.partition("net.prototxt")[2].startswith(":6:1: e (Eltwise): its bottoms differ in shape: 1 x 2 x 3")
        assert "this may be caused by what was left out: " in said
        assert ":2:97: PoolingParameter has no field 'ceil_mode'" in said

    def test_a_field_that_it_does_not_depend_on_is_not_named(self, path):
        text = self.CEIL.replace("ceil_mode: false", "") + (
            'layer { name: "z" type: "TanH" bottom: "x" top: "z" strange: 1 }')
        with pytest.raises(RmpeError, match=r"e \(Eltwise\)") as caught:
            load_net(path(text), strict=False)
        assert "strange" not in str(caught.value)


class TestAssumedShapes:
    """Data that is not there gets shapes that the layers which read it take."""

    SIGNS = '''layer { name: "d" type: "Signs" top: "data" top: "label" }
layer { name: "c" type: "Convolution" bottom: "data" top: "c" convolution_param { num_output: 7 kernel_size: 3 } }
layer { name: "l" type: "SigmoidCrossEntropyLoss" bottom: "c" bottom: "label" top: "l" }'''

    def test_a_data_layer_of_an_unknown_type_is_fed(self, path):
        with pytest.raises(RmpeError, match=r"d \(Signs\): unknown layer type"):
            load_net(path(self.SIGNS))
        with pytest.warns(UserWarning, match=".") as caught:
            net = load_net(path(self.SIGNS), strict=False)
        said = "\n".join(str(warning.message) for warning in caught)
        assert "d (Signs): unknown layer type; pass its tops instead: net(data=..., label=...)" in said
        assert net.steps[0].top_shapes == ((1, 3, 256, 256), (1, 7, 254, 254))
        loss = net(data=torch.ones(2, 3, 6, 5), label=torch.zeros(2, 7, 4, 3))["l"]
        assert loss.item() > 0
        with pytest.raises(RmpeError, match="pass its tops"):
            net()

    def test_a_data_layer_whose_fields_are_unknown_is_fed(self, path):
        text = self.SIGNS.replace('"Signs"', '"ImageData"').replace(
            'top: "label" }', 'top: "label" top: "more" image_data_param { source: "absent" of_a_fork: 3 } }')
        with pytest.warns(UserWarning, match="."):
            net = load_net(path(text), strict=False)
        assert "takes 2 tops, but is given 3; this may be caused by what was left out" in net.left_out.layers[0]
        assert net.outputs == ("l", "more")

    def test_labels_in_parts(self, path):
        with pytest.warns(UserWarning, match="tops are assumed to be data 1 x 3 x 8 x 8, label 1 x 6, which"):
            net = load_net(path("""layer { name: "d" type: "Data" top: "data" top: "label"
  data_param { source: "absent" batch_size: 1 } transform_param { crop_size: 8 } }
layer { name: "s" type: "Slice" bottom: "label" top: "a" top: "b" slice_param { slice_point: 3 } }"""))
        assert net.steps[1].top_shapes == ((1, 3), (1, 3))

    def test_parts_that_are_joined_with_maps_are_maps(self, path):
        with (pytest.warns(UserWarning, match="tops are assumed to be label 1 x 9 x 8 x 8, which"),
              pytest.warns(UserWarning, match="256 x 256 is assumed")):
            net = load_net(path("""layer { name: "d" type: "Data" top: "data"
  data_param { source: "absent" batch_size: 1 } transform_param { crop_size: 8 } }
layer { name: "l" type: "Data" top: "label" data_param { source: "absent" batch_size: 1 } }
layer { name: "s" type: "Slice" bottom: "label" top: "a" top: "b" top: "c" slice_param { slice_point: [1, 5] } }
layer { name: "c" type: "Convolution" bottom: "data" top: "x" convolution_param { num_output: 4 kernel_size: 1 } }
layer { name: "e" type: "Eltwise" bottom: "x" bottom: "b" top: "e" }"""))
        assert net.steps[2].top_shapes == ((1, 1, 8, 8), (1, 4, 8, 8), (1, 4, 8, 8))

    def test_parts_that_are_classes_have_no_places(self, path):
        with (pytest.warns(UserWarning, match="tops are assumed to be label 2 x 3, which"),
              pytest.warns(UserWarning, match="256 x 256 is assumed")):
            net = load_net(path("""
layer { name: "i" type: "Input" top: "x" input_param { shape { dim: 2 dim: 4 } } }
layer { name: "l" type: "Data" top: "label" data_param { source: "absent" batch_size: 2 } }
layer { name: "s" type: "Slice" bottom: "label" top: "a" top: "b" top: "c" slice_param { slice_point: [1, 2] } }
layer { name: "z" type: "Silence" bottom: "a" bottom: "c" }
layer { name: "m" type: "SoftmaxWithLoss" bottom: "x" bottom: "b" top: "m" }"""))
        assert net.steps[2].top_shapes == ((2, 1),) * 3

    def test_values_that_become_an_image_are_one(self, path):
        with pytest.warns(UserWarning, match="."):
            net = load_net(path("""
layer { name: "d" type: "Python" top: "x" python_param { module: "absent" layer: "D" } }
layer { name: "p" type: "Power" bottom: "x" top: "y" power_param { scale: 2 } }
layer { name: "c" type: "Convolution" bottom: "y" top: "c" convolution_param { num_output: 4 kernel_size: 1 } }"""))
        assert net.steps[0].top_shapes == ((1, 3, 256, 256),)

    def test_parts_that_are_cut_in_a_circle_tell_nothing(self, path):
        text = """layer { name: "d" type: "Signs" top: "x" }
layer { name: "s" type: "Slice" bottom: "x" top: "a" top: "b" slice_param { slice_point: 3 } }
layer { name: "z" type: "Slice" bottom: "b" top: "c" top: "x" slice_param { slice_point: 3 } }"""
        with pytest.warns(UserWarning, match="."):
            net = load_net(path(text), strict=False)
        assert [step.layer.spec.name for step in net.steps] == ["d", "s"]
        assert "z (Slice): " in net.left_out.layers[1]

    def test_a_slice_that_is_given_no_point_tells_nothing(self, path):
        text = """layer { name: "i" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }
layer { name: "d" type: "Signs" top: "s" }
layer { name: "b" type: "Slice" bottom: "x" bottom: "s" top: "b" }"""
        with pytest.raises(RmpeError, match=r"b \(Slice\): "):
            load_net(path(text), strict=False)

    def test_images_of_a_size_that_fits(self, path):
        quarter = "convolution_param { num_output: 2 kernel_size: 3 stride: 4 } }"
        text = f"""layer {{ name: "d" type: "Data" top: "data" data_param {{ source: "absent" batch_size: 1 }} }}
layer {{ name: "s" type: "Convolution" bottom: "data" top: "s" {quarter}
layer {{ name: "u" type: "Deconvolution" bottom: "s" top: "u" {quarter}
layer {{ name: "c" type: "Convolution" bottom: "data" top: "c" convolution_param {{ num_output: 2 kernel_size: 1 }} }}
layer {{ name: "e" type: "Eltwise" bottom: "u" bottom: "c" top: "e" }}"""
        with pytest.warns(UserWarning, match=".") as caught:
            net = load_net(path(text))
        assert "tops are assumed to be data 1 x 3 x 227 x 227, which the layers that read" in str(caught[-1].message)
        assert net.steps[0].top_shapes == ((1, 3, 227, 227),)

    def test_what_no_shape_suits_is_an_error_and_left_out_leniently(self, path):
        text = self.SIGNS.replace('"Signs" top: "data" top: "label"',
                                  '"Data" top: "data" top: "label" data_param { source: "absent" batch_size: 1 }')
        text += """
layer { name: "f" type: "Reshape" bottom: "c" top: "f" reshape_param { shape { dim: 11 dim: 13 } } }
layer { name: "t" type: "TanH" bottom: "f" top: "t" }"""
        with pytest.warns(UserWarning, match="."), pytest.raises(RmpeError, match=r"f \(Reshape\)"):
            load_net(path(text))
        with pytest.warns(UserWarning, match="."):
            net = load_net(path(text), strict=False)
        assert net.outputs == ("l",)


class TestUntil:
    """parse_net(until=...) keeps what blobs depend on, and does not judge the rest."""

    TEXT = INPUT + IP + ('layer { name: "a" type: "ReLU" bottom: "y" top: "y" }\n'
                         'layer { name: "f" type: "Flatten" bottom: "y" top: "flat" }\n'
                         'layer { name: "g" type: "TanH" bottom: "flat" top: "flat" }\n'
                         'layer { name: "b" type: "Quad" bottom: "y" top: "b" quad_param { beta: 2 } }\n'
                         'layer { name: "c" type: "TanH" bottom: "y" top: "c" odd: 1 }\n'
                         'layer { name: "d" type: "Data" bottom: "c" top: "d" }\n'
                         'layer { name: "e" type: "Sigmoid" bottom: "x" top: "e" }\n')

    def parse(self, *until: str, **options):
        return parse_net(parse_text(self.TEXT), until=until, **options)

    def test_what_lies_behind_does_not_count(self):
        parsed = self.parse("e")
        assert [spec.name for spec in parsed.specs] == ["in", "e"]
        assert [layer.name for layer in parsed.message.layer] == ["in", "e"]
        assert parsed.build().outputs == ("e",)

    def test_a_blob_is_its_final_value_through_shared_memory_too(self):
        parsed = self.parse("y")
        assert [spec.name for spec in parsed.specs if spec.type != "Split"] == ["in", "ip", "a", "f", "g"]

    def test_what_it_depends_on_does_count(self):
        with pytest.raises(RmpeError, match="LayerParameter has no field 'odd'") as caught:
            self.parse("c")
        assert "Quad" not in str(caught.value)

    def test_a_blob_that_is_none(self):
        with pytest.raises(RmpeError, match="no blob 'flt'; did you mean 'flat'"):
            self.parse("e", "flt")


class TestLimits:
    @pytest.mark.slow
    def test_the_number_of_layers(self, path):
        text = INPUT + 'layer { name: "r" type: "ReLU" bottom: "x" top: "x" }\n' * 20_000
        with pytest.raises(RmpeError, match="has 20001 layers; at most 20000 are supported"):
            load_net(path(text))

    def test_many_outputs_take_no_longer_each(self, path):
        text = INPUT + "".join(f'layer {{ name: "r{i}" type: "ReLU" bottom: "x" top: "r{i}" }}\n' for i in range(4000))
        began = time.process_time()
        assert len(load_net(path(text)).outputs) == 4000
        assert time.process_time() - began < 8


class TestOwnLayers:
    TEXT = INPUT + ('layer { name: "m" type: "Quad" bottom: "x" top: "m" '
                    'quad_param { beta: 2 kind: FAST part { size: 1 size: 3 } } }')

    def test_a_registered_layer_gets_its_parameters_as_parsed(self, path):
        @register("Quad")
        class Quad(Layer):
            def setup(self, *bottom):
                param = self.spec.get("quad_param")
                self.beta, self.kind, self.sizes = param.beta, param.kind, param.part.size
                self.declare("gain", bottom[0][1:], 3.0)

            def forward(self, x):
                return x * self.beta * self.blobs()[0]

        try:
            net = load_net(path(self.TEXT))
            assert (net.m.kind, net.m.sizes) == ("FAST", [1, 3])
            assert torch.equal(net(x=torch.ones(2, 3))["m"], torch.full((2, 3), 6.0))
        finally:
            registry._LAYERS.pop("Quad")

    def test_a_name_is_taken_once(self):
        with pytest.raises(ValueError, match="'ReLU' is taken by ReLU"):
            register("ReLU")(type("Mine", (Layer,), {}))

    def test_only_layers_can_be_registered(self):
        with pytest.raises(TypeError, match="not a subclass of"):
            register("Mine")(dict)

    @pytest.mark.parametrize(("written", "words"), [
        ("quad_param { bta: 2 }", ":2:53: quad_param declares no field 'bta'; did you mean 'beta'?"),
        ("quad_parm { beta: 2 }", ":2:53: Quad declares no field 'quad_parm'; did you mean 'quad_param'?"),
        ("quad_param { beta: 2 } convolution_param { odd: 1 }", "ConvolutionParameter has no field 'odd'"),
    ])
    def test_a_misspelt_field_of_a_layer_that_declares_its_fields(self, path, written, words):
        @register("Quad")
        class Quad(Layer):
            fields: ClassVar = {"quad_param": ("beta",)}

            def forward(self, x):
                return x * self.spec.get("quad_param").beta

        text = INPUT + f'layer {{ name: "m" type: "Quad" bottom: "x" top: "m" {written} }}'
        try:
            with pytest.raises(RmpeError) as caught:
                load_net(path(text))
            assert words in str(caught.value)
            with pytest.warns(UserWarning, match="left out"):
                load_net(path(text), strict=False)
            right = text.replace(written, "quad_param { beta: 2 }")
            assert torch.equal(load_net(path(right))(torch.ones(2, 3))["m"], torch.full((2, 3), 2.0))
        finally:
            registry._LAYERS.pop("Quad")

    def test_a_field_that_the_file_does_not_give_is_named_beside_those_it_gives(self, path):
        @register("Quad")
        class Quad(Layer):
            def setup(self, *bottom):
                self.gamma = self.spec.get("quad_param").gamma

        try:
            with pytest.raises(RmpeError, match=r"net\.prototxt:2:53: this message has no field 'gamma'; the "
                               "file gives it 'beta', 'kind', 'part'"):
                load_net(path(self.TEXT))
        finally:
            registry._LAYERS.pop("Quad")

    @pytest.mark.parametrize(("own", "words"), [
        ({"setup": lambda self, *bottom: self.nothing}, "its setup fails: AttributeError: 'Quad' object has no "
         f"attribute 'nothing' ({__file__}:"),
        ({"reshape": lambda self, *bottom: 1 / 0}, "its reshape fails: ZeroDivisionError: division by zero "
         f"({__file__}:"),
        ({"reshape": lambda self, *bottom: None}, "its reshape fails: TypeError: 'NoneType' object is not iterable"),
        ({"reshape": lambda self, *bottom: ["two"]}, "its reshape fails: TypeError: "),
        ({"__init__": lambda self, spec: self.nothing}, "its __init__ fails: AttributeError: "),
        ({"setup": lambda self, *bottom: [self.declare("a", (2,)), self.declare("a", (3,))]},
         "declares two parameters of one name; its parameters are a, a"),
        ({"forward": lambda self, x: x @ x}, "its forward fails on 2 x 3: RuntimeError: "),
        ({"setup": lambda self, *bottom: sys.exit(0)}, f"its setup fails: SystemExit: 0 ({__file__}:"),
        ({"forward": lambda self, x: sys.exit(0)}, "its forward fails on 2 x 3: SystemExit: 0 ("),
        ({"forward": lambda self, x: None}, "its forward returns NoneType; it must return a Tensor or a tuple of them"),
        ({"forward": lambda self, x: [x.numpy()]}, "its forward returns list; it must return a Tensor or a tuple of"),
    ])
    def test_a_mistake_of_its_author_has_its_line(self, path, own, words):
        register("Quad")(type("Quad", (Layer,), own))
        try:
            with pytest.raises(RmpeError) as caught:
                load_net(path(self.TEXT))(x=torch.ones(2, 3))
        finally:
            registry._LAYERS.pop("Quad")
        assert f"net.prototxt:2:1: m (Quad): {words}" in str(caught.value)

    def test_an_optional_field(self, path):
        @register("Quad")
        class Quad(Layer):
            def setup(self, *bottom):
                has = self.spec.has("quad_param")
                self.seen = [has, has and self.spec.get("quad_param").has("beta"), self.spec.has("name")]

        try:
            assert load_net(path(self.TEXT)).m.seen == [True, True, True]
            assert load_net(path(self.TEXT.replace("beta: 2", ""))).m.seen == [True, False, True]
            text = INPUT + 'layer { name: "m" type: "Quad" bottom: "x" top: "m" }'
            assert load_net(path(text)).m.seen == [False, False, True]
        finally:
            registry._LAYERS.pop("Quad")

    def test_what_its_forward_raises_is_told_with_the_line(self, path):
        @register("Quad")
        class Quad(Layer):
            def forward(self, x):
                return x.no_such_method()

        try:
            with pytest.raises(RmpeError, match=r"m \(Quad\): its forward fails on 2 x 3: AttributeError: .*"
                               r"no_such_method.* \(.*test_load\.py:\d+\)") as caught:
                load_net(path(self.TEXT))(torch.ones(2, 3))
            assert isinstance(caught.value.__cause__, AttributeError)
        finally:
            registry._LAYERS.pop("Quad")

    def test_a_wrong_number_of_tops(self, path):
        @register("Quad")
        class Quad(Layer):
            def forward(self, x):
                return x, x

        try:
            with pytest.raises(RmpeError, match="its forward returns 2 tops, but the prototxt names 1"):
                load_net(path(self.TEXT))(torch.ones(2, 3))
        finally:
            registry._LAYERS.pop("Quad")

    def test_a_parameter_that_is_not_there(self, path):
        @register("Quad")
        class Quad(Layer):
            def setup(self, *bottom):
                self.spec.get("mash_param")

        try:
            with pytest.raises(RmpeError, match=r"m \(Quad\): has no mash_param; besides Caffe's fields, the file "
                               "gives it 'quad_param'"):
                load_net(path(self.TEXT))
        finally:
            registry._LAYERS.pop("Quad")


class TestWeights:
    @staticmethod
    def save(tmp_path, text: str):
        net = text_format.Parse(text, caffe_pb2().NetParameter())
        (tmp_path / "w.caffemodel").write_bytes(net.SerializeToString())
        return tmp_path / "w.caffemodel"

    WEIGHT = "blobs { shape { dim: 4 dim: 3 } " + "data: 0.5 " * 12 + "} "
    BIAS = "blobs { shape { dim: 4 } data: [1, 2, 3, 4] } "

    def test_by_name(self, path, tmp_path):
        text = f'layer {{ name: "ip" {self.WEIGHT}{self.BIAS}}} layer {{ name: "other" {self.BIAS}}}'
        weights = self.save(tmp_path, text)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            net = load_net(path(INPUT + IP), weights)
        assert net.params["ip"][1].tolist() == [1, 2, 3, 4]
        assert net.left_out.weights == ["the network has no layer other: these weights are not used"]

    def test_a_layer_without_weights_is_told(self, path, tmp_path):
        with pytest.warns(UserWarning, match="has nothing for ip, which keep the values of their fillers"):
            load_net(path(INPUT + IP), self.save(tmp_path, 'layer { name: "other" }'))

    @pytest.mark.parametrize(("text", "words"), [
        (WEIGHT, "has 2 parameters, but 1 in the weights"),
        (WEIGHT + BIAS + BIAS, "has 2 parameters, but 3 in the weights"),
        (BIAS + BIAS, "its blob 0 (weight) is 4 x 3, but 4 in the weights"),
        (WEIGHT.replace("dim: 4 dim: 3", "dim: 3 dim: 4") + BIAS, "is 4 x 3, but 3 x 4 in the weights"),
    ])
    def test_that_do_not_fit(self, path, tmp_path, text, words):
        weights = self.save(tmp_path, f'layer {{ name: "ip" {text}}}')
        with pytest.raises(RmpeError) as caught:
            load_net(path(INPUT + IP), weights)
        assert "net.prototxt:2:1: ip (InnerProduct): " in str(caught.value)
        assert words in str(caught.value)

    def test_the_network_owns_them(self, path, tmp_path):
        weights = self.save(tmp_path, f'layer {{ name: "ip" {self.WEIGHT}{self.BIAS}}}')
        before = weights.read_bytes()
        net = load_net(path(INPUT + IP), weights)
        with torch.no_grad():
            net.params["ip"][0].zero_()
        assert weights.read_bytes() == before


class TestPhases:
    def test_layers_that_fit_together_in_the_other_phase_alone(self, path):
        file = path(INPUT.replace('type: "Input"', 'type: "Input" include { phase: TRAIN }') + IP)
        with pytest.raises(RmpeError, match=r"no earlier layer produces its bottom 'x'; the layers of phase TRAIN fit "
                                            r"together \(phase=\"TRAIN\", --phase TRAIN\)$"):
            load_net(file)
        assert load_net(file, phase="TRAIN").outputs == ("y",)
