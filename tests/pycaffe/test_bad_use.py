"""The types of the exceptions that bad use raises, each with the line of pycaffe that raised it.

The lines are of python/caffe in BVLC/caffe@9b89154. "Boost.Python" stands for its conversion of arguments, whose
ArgumentError is a TypeError, and "Python" for what a dictionary, a list or NumPy raises. pycaffe raised a bare
Exception in places; any RmpeError is one.
"""

import numpy as np
import pytest
import torch

from rmpe_legacy import pycaffe as caffe
from rmpe_legacy.errors import RmpeError

NET = """
force_backward: true
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 } } }
layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc" inner_product_param { num_output: 5 } }
"""
IMAGE = np.ones((4, 4, 3), np.float32)


@pytest.fixture
def net(file):
    return caffe.Net(file, caffe.TEST)


def replace(holder, name):
    setattr(holder, name, 1)


def write(array, value):
    array[...] = value


# name -> the call, the type, and where pycaffe raised it
NETWORKS = {
    "a network's file": (lambda net: caffe.Net("none.prototxt", caffe.TEST), RuntimeError, "_caffe.cpp:81"),
    "a weight file, old": (lambda net: caffe.Net("none", "none", caffe.TEST), RuntimeError, "_caffe.cpp:81"),
    "copy_from, a missing file": (lambda net: net.copy_from("none.caffemodel"), RuntimeError, "ends the process"),
    "load_hdf5, a missing file": (lambda net: net.load_hdf5("none.h5"), RuntimeError, "ends the process"),
    "save, a missing folder": (lambda net: net.save("none/net.caffemodel"), RuntimeError, "ends the process"),
    "copy_from, a number": (lambda net: net.copy_from(3), TypeError, "Boost.Python"),
    "share_with, a number": (lambda net: net.share_with(3), TypeError, "Boost.Python"),
    "a blob's name": (lambda net: net.blobs["fc9"], KeyError, "pycaffe.py:31, an OrderedDict"),
    "a parameter's name": (lambda net: net.params["data"], KeyError, "pycaffe.py:65, an OrderedDict"),
    "a layer's name": (lambda net: net.layer_dict["fc9"], KeyError, "pycaffe.py:53, an OrderedDict"),
    "top_names": (lambda net: net.top_names["fc9"], KeyError, "pycaffe.py:324, an OrderedDict"),
    "bottom_names": (lambda net: net.bottom_names["fc9"], KeyError, "pycaffe.py:324, an OrderedDict"),
    "forward's start": (lambda net: net.forward(start="fc9"), ValueError, "pycaffe.py:110, list.index"),
    "forward's end": (lambda net: net.forward(end="fc9"), ValueError, "pycaffe.py:115, list.index"),
    "backward's start": (lambda net: net.backward(start="fc9"), ValueError, "pycaffe.py:158, list.index"),
    "backward's end": (lambda net: net.backward(end="fc9"), ValueError, "pycaffe.py:163, list.index"),
    "forward's blobs": (lambda net: net.forward(["fc9"]), KeyError, "pycaffe.py:134"),
    "backward's diffs": (lambda net: net.backward(["fc9"]), KeyError, "pycaffe.py:182"),
    "an input too many": (lambda net: net.forward(data=np.ones((2, 3)), more=np.ones(1)), Exception, "pycaffe.py:123"),
    "another input": (lambda net: net.forward(image=np.ones((2, 3))), Exception, "pycaffe.py:123"),
    "a batch of another size": (lambda net: net.forward(data=np.ones((1, 3))), Exception, "pycaffe.py:128"),
    "a diff of another blob": (lambda net: net.backward(data=np.ones((2, 3))), Exception, "pycaffe.py:171"),
    "a batch of diffs": (lambda net: net.backward(fc=np.ones((1, 5))), Exception, "pycaffe.py:176"),
    "another first layer": (lambda net: net.set_input_arrays(np.ones(1), np.ones(1)), RuntimeError, "_caffe.cpp:173"),
    "reshape by name": (lambda net: net.blobs["data"].reshape(num=2), RuntimeError, "_caffe.cpp:246"),
    "reshape by text": (lambda net: net.blobs["data"].reshape("2", 3), TypeError, "_caffe.cpp:251, Boost.Python"),
    "reshape by a float": (lambda net: net.blobs["data"].reshape(2.5, 3), TypeError, "_caffe.cpp:251, Boost.Python"),
    "reshape to less than 0": (lambda net: net.blobs["data"].reshape(-1, 3), RuntimeError, "ends the process"),
    "replaced data": (lambda net: replace(net.blobs["data"], "data"), AttributeError, "Boost.Python, add_property"),
    "replaced diff": (lambda net: replace(net.blobs["data"], "diff"), AttributeError, "Boost.Python, add_property"),
    "replaced layers": (lambda net: replace(net, "layers"), AttributeError, "Boost.Python, add_property"),
    "replaced inputs": (lambda net: replace(net, "inputs"), AttributeError, "pycaffe.py:72, a property"),
    "a solver's file": (lambda net: caffe.SGDSolver("none.prototxt"), RuntimeError, "ends the process"),
    "get_solver's file": (lambda net: caffe.get_solver("none.prototxt"), RuntimeError, "ends the process"),
    "a solver's file, a number": (lambda net: caffe.SGDSolver(3), TypeError, "Boost.Python"),
    "a GPU's name": (lambda net: caffe.set_device("first"), TypeError, "Boost.Python"),
    "a seed of text": (lambda net: caffe.set_random_seed("one"), TypeError, "Boost.Python"),
}
TRANSFORMER = {
    "preprocess": (lambda t: t.preprocess("dat", IMAGE), Exception, "io.py:119"),
    "deprocess": (lambda t: t.deprocess("dat", IMAGE), Exception, "io.py:119"),
    "set_raw_scale": (lambda t: t.set_raw_scale("dat", 255), Exception, "io.py:119"),
    "set_input_scale": (lambda t: t.set_input_scale("dat", 2), Exception, "io.py:119"),
    "an order of two": (lambda t: t.set_transpose("data", (0, 1)), Exception, "io.py:200"),
    "a swap of two": (lambda t: t.set_channel_swap("data", (0, 1)), Exception, "io.py:218"),
    "a mean of two": (lambda t: t.set_mean("data", np.ones(2)), ValueError, "io.py:251"),
    "a mean of four axes": (lambda t: t.set_mean("data", np.ones((1, 3, 4, 4))), ValueError, "io.py:258"),
    "a datum of one axis": (lambda t: caffe.io.array_to_datum(np.ones(3)), ValueError, "io.py:72"),
    "an image's file": (lambda t: caffe.io.load_image("none.jpg"), OSError, "io.py:302, skimage"),
}
NET_SPEC = {
    "an input that is no top": (lambda: caffe.layers.InnerProduct(3), TypeError, "net_spec.py:108"),
    "a blob by attribute": (lambda: caffe.NetSpec().data, KeyError, "net_spec.py:180"),
    "a blob by key": (lambda: caffe.NetSpec()["data"], KeyError, "net_spec.py:186"),
    "a parameter": (lambda: caffe.to_proto(caffe.layers.ReLU(slop=1)), AttributeError, "net_spec.py:162"),
    "a message": (lambda: caffe.params.Poling.MAX, AttributeError, "net_spec.py:224"),
}
# what NumPy, protobuf and lists raise is theirs, sentence and all
NOT_OURS = {
    "data of another shape": (lambda net: write(net.blobs["data"].data, np.ones(7)), ValueError),
    "an input of another shape": (lambda net: net.forward(data=np.ones((2, 4))), ValueError),
    "a layer's number": (lambda net: net.layers[9], IndexError),
    "a layer by name": (lambda net: net.layers["fc"], TypeError),
    "a parameter's number": (lambda net: net.params["fc"][9], IndexError),
    "an attribute": (lambda net: net.blob, AttributeError),
    "a field of a message": (lambda net: caffe.proto.caffe_pb2.NetParameter(nam="x"), ValueError),
    "text for a number": (lambda net: caffe.to_proto(caffe.layers.InnerProduct(num_output="x")), TypeError),
    "a value of an enum": (lambda net: caffe.params.Pooling.MIN, AttributeError),
}


def raises(call, error, *args):
    with pytest.raises(error) as caught:
        call(*args)
    assert isinstance(caught.value, RmpeError)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_and_solvers(net, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    raises(*NETWORKS[name][:2], net)


@pytest.mark.parametrize("name", TRANSFORMER)
def test_io(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    raises(*TRANSFORMER[name][:2], caffe.io.Transformer({"data": (1, 3, 4, 4)}))


@pytest.mark.parametrize("name", NET_SPEC)
def test_net_spec(name):
    raises(*NET_SPEC[name][:2])


@pytest.mark.parametrize("name", NOT_OURS)
def test_what_python_numpy_and_protobuf_raise(net, name):
    call, error = NOT_OURS[name]
    with pytest.raises(error):
        call(net)


def test_weights_that_are_missing(file):
    raises(lambda: caffe.Net(file, caffe.TEST, weights="none.caffemodel"), RuntimeError)  # _caffe.cpp:81
    raises(lambda: caffe.Net(file, caffe.TEST, weights=3), TypeError)  # _caffe.cpp:128, Boost.Python
    raises(lambda: caffe.Net(file), TypeError)  # Boost.Python: no signature fits


def test_a_seed_below_0_is_taken():
    caffe.set_random_seed(-1)
    assert torch.initial_seed() % 2**64 == 2**64 - 1


def test_numpy_integers_are_integers(net):
    net.blobs["data"].reshape(np.int64(4), np.array(3))
    assert net.blobs["data"].data.shape == (4, 3)
