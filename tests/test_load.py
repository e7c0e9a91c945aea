"""load_net: unknown things strict and lenient, layers of one's own, weights that do not fit."""

import warnings

import pytest
import torch
from google.protobuf import text_format

from rmpe_legacy import Layer, RmpeError, load_net, register
from rmpe_legacy.layers import registry
from rmpe_legacy.proto.protobuf import caffe_pb2

INPUT = 'layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }\n'
IP = 'layer { name: "ip" type: "InnerProduct" bottom: "x" top: "y" inner_product_param { num_output: 4 } }\n'
UNKNOWN = """\
layer { name: "a" type: "ReLU" bottom: "y" top: "a" extra: 3 relu_param { engine: FAST } }
layer { name: "b" type: "Mish" bottom: "y" top: "b" mish_param { beta: 2 } }
layer { name: "c" type: "ReLU" bottom: "b" top: "c" }
layer { name: "d" type: "Mish" bottom: "a" top: "a" }
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
            "LayerParameter has no field 'mish_param'",
            "b (Mish): unknown layer type",
            "d (Mish): unknown layer type",
        ]
        assert [line.split(":")[1] for line in lines] == ["3", "3", "4", "4", "6"]

    def test_lenient_computes_what_it_can_and_says_what_not(self, path):
        with pytest.warns(UserWarning, match="left out"):
            net = load_net(path(INPUT + IP + UNKNOWN), strict=False)
        assert net.outputs == ("f",), "what an unknown layer writes, in place too, is not computed"
        assert net(x=torch.ones(2, 3))["f"].shape == (2, 4)
        assert len(net.left_out.fields) == 3
        assert [s.split(": ", 1)[1].split(";")[0] for s in net.left_out.layers] == [
            "b (Mish): unknown layer type",
            "c (ReLU): needs b, which is left out",
            "d (Mish): unknown layer type",
            "e (TanH): needs d, which is left out",
        ]

    def test_nothing_left_to_compute(self, path):
        with pytest.raises(RmpeError, match="no layers can be computed"):
            load_net(path('layer { name: "b" type: "Mish" top: "b" }'), strict=False)

    def test_of_another_dialect_it_says_which(self, path):
        text = INPUT + 'layer { name: "p" type: "PriorBox" bottom: "x" top: "p" prior_box_param { step: 8 } }'
        with pytest.raises(RmpeError, match="has no field 'step'; dialect 'ssd' has it"):
            load_net(path(text))


class TestOwnLayers:
    TEXT = INPUT + ('layer { name: "m" type: "Mish" bottom: "x" top: "m" '
                    'mish_param { beta: 2 kind: FAST part { size: 1 size: 3 } } }')

    def test_a_registered_layer_gets_its_parameters_as_parsed(self, path):
        @register("Mish")
        class Mish(Layer):
            def setup(self, *bottom):
                param = self.spec.get("mish_param")
                self.beta, self.kind, self.sizes = param.beta, param.kind, param.part.size
                self.declare("gain", bottom[0][1:], 3.0)

            def forward(self, x):
                return x * self.beta * self.blobs()[0]

        try:
            net = load_net(path(self.TEXT))
            assert (net.m.kind, net.m.sizes) == ("FAST", [1, 3])
            assert torch.equal(net(x=torch.ones(2, 3))["m"], torch.full((2, 3), 6.0))
        finally:
            registry._LAYERS.pop("Mish")

    def test_a_name_is_taken_once(self):
        with pytest.raises(ValueError, match="'ReLU' is taken by ReLU"):
            register("ReLU")(type("Mine", (Layer,), {}))

    def test_only_layers_can_be_registered(self):
        with pytest.raises(TypeError, match="not a subclass of"):
            register("Mine")(dict)

    def test_a_parameter_that_is_not_there(self, path):
        @register("Mish")
        class Mish(Layer):
            def setup(self, *bottom):
                self.spec.get("mash_param")

        try:
            with pytest.raises(RmpeError, match=r"m \(Mish\): has no mash_param"):
                load_net(path(self.TEXT))
        finally:
            registry._LAYERS.pop("Mish")


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
        with pytest.warns(UserWarning, match="has nothing for ip: left as the fillers made them"):
            load_net(path(INPUT + IP), self.save(tmp_path, 'layer { name: "other" }'))

    @pytest.mark.parametrize(("text", "words"), [
        (WEIGHT, "has 2 parameters, the weights hold 1 for it"),
        (WEIGHT + BIAS + BIAS, "has 2 parameters, the weights hold 3 for it"),
        (BIAS + BIAS, "its blob 0 (weight) is 4 x 3, the weights hold 4"),
        (WEIGHT.replace("dim: 4 dim: 3", "dim: 3 dim: 4") + BIAS, "is 4 x 3, the weights hold 3 x 4"),
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
