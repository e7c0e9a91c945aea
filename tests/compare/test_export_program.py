"""export_program: torch.export with inputs of any size, by the blobs' names."""

from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from rmpe_legacy import export_program, load_net
from rmpe_legacy.errors import NetError, RmpeError
from rmpe_legacy.export.emit.context import PYTHON

NET = """
layer { name: "in" type: "Input" top: "the-data" input_param { shape { dim: [1, 3, 12, 18] } } }
layer { name: "c" type: "Convolution" bottom: "the-data" top: "c"
  convolution_param { num_output: 4 kernel_size: 3 pad: 1 stride: 2 weight_filler { type: "xavier" } } }
layer { name: "prelu" type: "PReLU" bottom: "c" top: "c" }
layer { name: "p" type: "Pooling" bottom: "c" top: "p" pooling_param { kernel_size: 2 stride: 2 } }
"""
UP = """
layer { name: "up" type: "Deconvolution" bottom: "p" top: "up"
  convolution_param { num_output: 4 kernel_size: 8 stride: 4 weight_filler { type: "xavier" } } }
layer { name: "cut" type: "Crop" bottom: "up" bottom: "the-data" top: "cut" crop_param { axis: 2 offset: 1 } }
"""
INTERP = """
layer { name: "i" type: "Interp" bottom: "p" top: "i" interp_param { shrink_factor: 2 zoom_factor: 3 pad_beg: -1 } }
"""
CLIP = """
layer { name: "q" type: "Pooling" bottom: "c" top: "q" pooling_param { pool: AVE kernel_size: 3 stride: 2 pad: 1 } }
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "net.prototxt"
    path.write_text(text)
    return path


@pytest.mark.parametrize("more", [UP, INTERP, CLIP], ids=["crop", "interp", "average"])
def test_any_size_by_the_blobs_names(tmp_path, more):
    net = load_net(write(tmp_path, NET + more))
    module = export_program(net, ("batch", "height", "width")).module()
    for n, h, w in ((1, 41, 30), (3, 20, 57), (2, 33, 64)):
        x = torch.randn(n, 3, h, w)
        found, right = module(the_data=x), net({"the-data": x})
        assert found.keys() == right.keys()
        for blob, value in right.items():
            assert_close(found[blob], value)


def test_the_batch_alone(tmp_path):
    net = load_net(write(tmp_path, NET + """layer { name: "fc" type: "InnerProduct" bottom: "p" top: "fc"
        inner_product_param { num_output: 5 weight_filler { type: "xavier" } } }"""))
    module, x = export_program(net).module(), torch.randn(5, 3, 12, 18)
    assert_close(module(the_data=x)["fc"], net({"the-data": x})["fc"])
    with pytest.raises(RmpeError, match=r"fc \(InnerProduct\): .* its weight, 5 x 60, fits only one size"):
        export_program(net, ("height",))


def test_sizes_that_are_written_into_the_program_are_refused(tmp_path):
    path = write(tmp_path, NET + """layer { name: "up" type: "Unpooling" bottom: "p" top: "up"
        unpooling_param { unpool: MAX kernel_size: 2 stride: 2 unpool_size: 6 } }""")
    with pytest.raises(RmpeError, match=r"up \(Unpooling\): cannot be written as a PyTorch module: it is written for"):
        export_program(load_net(path), ("height", "width"))


def test_a_program_that_computes_something_else_is_refused(tmp_path, monkeypatch):
    monkeypatch.setitem(PYTHON._entries, "PReLU", lambda ctx: f"{ctx.x[0]} * (1 + ({ctx.x[0]}.shape[0] == 1))")
    with pytest.raises(NetError, match=r"the exported program is rejected; with the-data|torch\.export cannot"):
        export_program(load_net(write(tmp_path, NET)), ("batch", "height", "width"))
