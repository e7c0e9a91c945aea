"""Winograd's convolution gives what the sum of products gives, for every shape."""

import os
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from rmpe_legacy.ops.winograd import winograd, winograd_weight


def normal(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def direct(x: Tensor, weight: Tensor, bias: Tensor | None, term: Tensor | None, pad: tuple[int, int], relu: bool,
           dilation: tuple[int, int] = (1, 1)) -> Tensor:
    y = F.conv2d(x.double(), weight.double(), None if bias is None else bias.double(), padding=pad, dilation=dilation)
    y = y if term is None else y + term
    return y.relu() if relu else y


@pytest.mark.parametrize("pad", [(0, 0), (1, 1), (2, 2), (1, 0), (0, 3)])
@pytest.mark.parametrize("shape", [(1, 1, 3, 3, 1), (2, 3, 9, 14, 5), (3, 16, 8, 8, 32), (1, 17, 21, 6, 33),
                                   (1, 40, 50, 52, 48), (5, 8, 4, 7, 15)])
def test_gives_what_the_sum_of_products_gives(shape: tuple[int, ...], pad: tuple[int, int]):
    """shape: images, channels, rows, columns, outputs."""
    n, c, h, w, k = shape
    x, weight, bias = normal(n, c, h, w), normal(k, c, 3, 3), normal(k)
    term = normal(n, k, h + 2 * pad[0] - 2, w + 2 * pad[1] - 2)
    for given_bias, given_term, relu in ((None, None, False), (bias, None, True), (bias, term, True)):
        expected = direct(x, weight, given_bias, given_term, pad, relu)
        for layout in (torch.contiguous_format, torch.channels_last):
            y = winograd(x.contiguous(memory_format=layout), winograd_weight(weight), given_bias,
                         None if given_term is None else given_term.contiguous(memory_format=layout), k, pad, (1, 1),
                         relu)
            assert y.is_contiguous(memory_format=torch.channels_last)
            torch.testing.assert_close(y.double(), expected, rtol=0, atol=3e-6 * float(expected.abs().max() + 1))


@pytest.mark.parametrize(("size", "pad", "dilation"), [((32, 33), (6, 6), (6, 6)), ((9, 12), (2, 1), (2, 1)),
                                                       ((5, 4), (12, 12), (12, 12)), ((17, 9), (0, 3), (3, 2))])
def test_dilation(size: tuple[int, int], pad: tuple[int, int], dilation: tuple[int, int]):
    x, weight, bias = normal(2, 19, *size), normal(21, 19, 3, 3), normal(21)
    expected = direct(x, weight, bias, None, pad, relu=False, dilation=dilation)
    y = winograd(x, winograd_weight(weight), bias, None, 21, pad, dilation, relu=False)
    torch.testing.assert_close(y.double(), expected, rtol=0, atol=3e-6 * float(expected.abs().max()))


def test_one_pixel_with_padding():
    x, weight = normal(1, 20, 1, 1), normal(4, 20, 3, 3)
    y = winograd(x, winograd_weight(weight), None, None, 4, (1, 1), (1, 1), relu=False)
    torch.testing.assert_close(y[0, :, 0, 0], weight[:, :, 1, 1] @ x.flatten(), rtol=0, atol=1e-5)


def test_no_images_and_no_channels_and_no_outputs():
    def convolve(n: int, c: int, k: int) -> Tensor:
        return winograd(torch.zeros(n, c, 5, 6), winograd_weight(torch.zeros(k, c, 3, 3)), torch.ones(k), None, k,
                        (1, 1), (1, 1), relu=False)

    assert convolve(0, 3, 4).shape == (0, 4, 5, 6)
    assert convolve(2, 3, 0).shape == (2, 0, 5, 6)
    assert torch.equal(convolve(2, 0, 4), torch.ones(2, 4, 5, 6))


def test_strides_do_not_matter():
    x, weight = normal(2, 9, 20, 6), normal(5, 9, 3, 3)
    whole = winograd(x[:, :, ::2], winograd_weight(weight.mT), None, None, 5, (1, 1), (1, 1), relu=False)
    copied = winograd(x[:, :, ::2].contiguous(), winograd_weight(weight.mT.contiguous()), None, None, 5, (1, 1), (1, 1),
                      relu=False)
    assert torch.equal(whole, copied)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_value_that_is_not_finite_reaches_no_further_than_its_tiles(value: float):
    """Differs: from exact mode, where it reaches the 3 x 3 outputs that read it. Here it reaches all of a tile, 4 x 4.
    """
    x, weight = normal(1, 8, 12, 12), normal(8, 8, 3, 3)
    fine = winograd(x, winograd_weight(weight), None, None, 8, (1, 1), (1, 1), relu=False)
    x[0, 2, 5, 6] = value
    y = winograd(x, winograd_weight(weight), None, None, 8, (1, 1), (1, 1), relu=False)
    reached = torch.zeros(12, 12, dtype=torch.bool)
    reached[4:8, 4:8] = True  # the tile whose outputs read row 5, column 6
    assert not y[0, :, reached].isfinite().any()
    assert torch.equal(y[0, :, ~reached], fine[0, :, ~reached])


def test_relu_keeps_nan():
    x = torch.full((1, 8, 4, 4), float("nan"))
    assert winograd(x, winograd_weight(normal(8, 8, 3, 3)), None, None, 8, (1, 1), (1, 1), relu=True).isnan().all()


BITS = """
import hashlib, sys
import numpy as np
import torch
from rmpe_legacy.ops.winograd import winograd, winograd_weight
torch.set_num_threads(int(sys.argv[1]))
x, weight, bias = (torch.from_numpy(np.random.default_rng(1).standard_normal(shape, np.float32))
                   for shape in ((2, 37, 40, 41), (29, 37, 3, 3), (29,)))
y = winograd(x, winograd_weight(weight), bias, None, 29, (1, 2), (1, 1), True)
print(hashlib.sha256(y.numpy().tobytes()).hexdigest())
"""


def test_bits_depend_neither_on_instruction_set_nor_on_threads():
    def bits(threads: int, **environment: str) -> str:
        return subprocess.run([sys.executable, "-c", BITS, str(threads)], env={**os.environ, **environment}, check=True,
                              capture_output=True, text=True).stdout

    assert len({bits(1), bits(3), *(bits(2, ATEN_CPU_CAPABILITY=kept_to) for kept_to in ("default", "avx2"))}) == 1


@pytest.mark.parametrize(("change", "sentence"), [
    ({"x": normal(3, 5, 6)}, r"winograd: x must be \(N, C, H, W\), got \[3, 5, 6\]"),
    ({"x": normal(1, 3, 5, 6).double()}, "winograd: x must be float, got Double"),
    ({"x": normal(1, 4, 5, 6)}, r"winograd: weight must be that of winograd_weight for 4 channels and 2 outputs"),
    ({"pad": (-1, 0)}, r"winograd: x must have rows and columns for one output with its padding, got \[1, 3, 5, 6\]"),
    ({"x": normal(1, 3, 2, 6), "pad": (0, 0)}, "winograd: x must have rows and columns for one output"),
    ({"dilation": (1, 0)}, "winograd: dilation must be positive, got 1, 0"),
    ({"bias": normal(3)}, r"winograd: bias must be \(2,\), got \[3\]"),
    ({"bias": normal(2).double()}, "winograd: bias must be float, got Double"),
    ({"term": normal(1, 2, 5, 5)}, r"winograd: term must have the result's shape \[1, 2, 5, 6\], got \[1, 2, 5, 5\]"),
    ({"outputs": 33}, "winograd: weight must be that of winograd_weight for 3 channels and 33 outputs"),
])
def test_wrong_arguments_are_a_sentence(change: dict, sentence: str):
    fine = {"x": normal(1, 3, 5, 6), "weight": winograd_weight(normal(2, 3, 3, 3)), "bias": normal(2), "term": None,
            "outputs": 2, "pad": (1, 1), "dilation": (1, 1), "relu": True}
    winograd(**fine)
    with pytest.raises(RuntimeError, match=sentence):
        winograd(**fine | change)


def test_wrong_weights_are_a_sentence():
    with pytest.raises(RuntimeError, match=r"winograd_weight: weight must be \(K, C, 3, 3\), got \[2, 3, 3, 1\]"):
        winograd_weight(normal(2, 3, 3, 1))
    with pytest.raises(RuntimeError, match="winograd_weight: weight must be float, got Double"):
        winograd_weight(normal(2, 3, 3, 3).double())


def test_has_no_gradient():
    x = normal(1, 8, 4, 4).requires_grad_()
    with pytest.raises(NotImplementedError, match=r"winograd: has no gradient; use torch\.nn\.functional\.conv2d"):
        winograd(x, winograd_weight(normal(8, 8, 3, 3)), None, None, 8, (1, 1), (1, 1), relu=True).sum().backward()


def test_opcheck():
    weight = winograd_weight(normal(5, 3, 3, 3))
    torch.library.opcheck(torch.ops.rmpe.winograd_weight.default, (normal(5, 3, 3, 3),))
    for x in (normal(2, 3, 6, 7), normal(2, 3, 6, 7).contiguous(memory_format=torch.channels_last)):
        torch.library.opcheck(torch.ops.rmpe.winograd.default, (x, weight, normal(5), None, 5, 1, 2, 1, 1, True))
