"""The SSTN's operators as tensor functions: bits, gradients, and what torch asks of an operator."""

import hashlib
import io
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from difference import Golden
from one_layer import normal
from paths import TESTS
from torch import Tensor
from torch.autograd import gradcheck
from torch.autograd.forward_ad import dual_level, make_dual
from torch.testing import assert_close

from rmpe_legacy import ops
from rmpe_legacy.errors import RmpeError
from rmpe_legacy.ops.registration import BUILT_WITH_CUDA

GOLDEN = TESTS / "golden" / "layers"
TURNED = (0.8, -0.6, 0.1, 0.5, 0.9, -0.2)
INF, NAN = float("inf"), float("nan")


def warp_goldens() -> list[Path]:
    """Cases whose theta has all six numbers, so that they are about the operator alone."""
    return [f for f in sorted(GOLDEN.glob("SpatialTransformer__*"))
            if not re.search("theta_[12]|de_transform|InnerProduct", (f / "net.prototxt").read_text())
            and "in_theta" in np.load(f / "case.npz")]


def thetas(n: int, dtype: torch.dtype = torch.float32, spread: float = 0.3) -> Tensor:
    """Maps near the turned one, none like another."""
    return (torch.tensor(TURNED) + spread * normal(n, 6, seed=7)).to(dtype)


def warp_slowly(image: Tensor, theta: Tensor, out_h: int, out_w: int) -> Tensor:
    """What st_layer.cu:40-85 says, one value at a time, in double precision."""
    n, channels, h, w = image.shape
    out = np.zeros((n, channels, out_h, out_w))
    for i, s, t in np.ndindex(n, out_h, out_w):
        a, b, c, d, e, f = theta[i].double().tolist()
        u, v = s / out_h * 2 - 1, t / out_w * 2 - 1
        row, column = (a * u + b * v + c + 1) / 2 * h, (d * u + e * v + f + 1) / 2 * w
        for y in (int(np.floor(row)), int(np.floor(row)) + 1):
            for x in (int(np.floor(column)), int(np.floor(column)) + 1):
                if 0 <= y < h and 0 <= x < w:
                    out[i, :, s, t] += (1 - abs(row - y)) * (1 - abs(column - x)) * image[i, :, y, x].numpy()
    return torch.from_numpy(out)


def gradients(output: Tensor, inputs: list[Tensor], grad: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(output, inputs, grad, retain_graph=True))


def same_bits(got: Tensor, want: Tensor | np.ndarray) -> bool:
    want = torch.as_tensor(want)
    return got.shape == want.shape and torch.equal(got, want)


class TestGoldens:
    @pytest.mark.parametrize("fused", [True, False], ids=["fused", "unfused"])
    @pytest.mark.parametrize("folder", warp_goldens(), ids=lambda f: f.name.split("__")[1])
    def test_no_bit_differs(self, folder: Path, fused: bool):
        data = Golden.read(folder / "case.npz")
        prefix = "fma_" if fused else ""
        image, theta = (torch.from_numpy(data[f"in_{name}"]) for name in ("U", "theta"))
        theta = theta.flatten(1)
        leaves = [image.requires_grad_(), theta.requires_grad_()]
        want = data[f"{prefix}blob_V"]
        out = ops.spatial_transformer(*leaves, *want.shape[2:], fused=fused)
        data.check(f"{prefix}blob_V", out.detach())
        if "topdiff_V" not in data:
            return
        d_image, d_theta = gradients(out, leaves, torch.from_numpy(data["topdiff_V"]))
        data.check(f"{prefix}diff_theta", d_theta, shape=d_theta.shape)
        if folder.name != "SpatialTransformer__no_dU":
            data.check(f"{prefix}diff_U", d_image)

    def test_there_are_some(self):
        assert len(warp_goldens()) >= 10


# A child process: instruction sets are chosen once. It hashes what the operators give for this number of threads.
BITS = """
import hashlib, sys
import numpy as np
import torch
from rmpe_legacy import ops
torch.set_num_threads(int(sys.argv[1]))
def numbers(*shape):
    return torch.from_numpy(np.random.default_rng(sum(shape)).standard_normal(shape)).to(dtype).requires_grad_()
digest = hashlib.sha256()
for dtype in (torch.float32, torch.float64):
    for n, c, h, w, oh, ow in ((3, 11, 37, 41, 29, 23), (1, 3, 64, 56, 48, 40), (9, 2, 12, 10, 33, 17)):
        image, theta, slope, bias = numbers(n, c, h, w), numbers(n, 6), numbers(c), numbers(c)
        for fused in (True, False):
            out = ops.spatial_transformer(image, theta, oh, ow, fused)
            y = ops.eltwise_affine(image, slope, bias, fused)
            grads = torch.autograd.grad(out, (image, theta), out.detach())
            grads += torch.autograd.grad(y, (image, slope, bias), y.detach())
            for tensor in (out, y, *grads, ops.prediction_heatmap(image), ops.invert_theta(theta)):
                digest.update(tensor.detach().numpy().tobytes())
print(digest.hexdigest())
"""


def test_bits_depend_neither_on_instruction_set_nor_on_threads():
    def bits(threads: int, **environment: str) -> str:
        return subprocess.run([sys.executable, "-c", BITS, str(threads)], env={**os.environ, **environment}, check=True,
                              capture_output=True, text=True).stdout

    assert len(bits(1)) == 2 * hashlib.sha256().digest_size + 1
    assert len({bits(1), bits(3), *(bits(2, ATEN_CPU_CAPABILITY=kept_to) for kept_to in ("default", "avx2"))}) == 1


class TestSpatialTransformer:
    @pytest.mark.parametrize("size", [(2, 3, 9, 7, 5, 11), (1, 1, 1, 6, 4, 3), (3, 2, 8, 1, 2, 5)])
    def test_gives_what_the_published_loops_say(self, size: tuple[int, ...]):
        *shape, out_h, out_w = size
        image, theta = normal(*shape, dtype=torch.float64), thetas(shape[0], torch.float64)
        want = warp_slowly(image, theta, out_h, out_w)
        assert_close(ops.spatial_transformer(image, theta, out_h, out_w), want, rtol=0, atol=1e-13)
        single = ops.spatial_transformer(image.float(), theta.float(), out_h, out_w)
        assert_close(single.double(), want, rtol=0, atol=1e-4)

    def test_has_the_gradient_of_its_output(self):
        leaves = [normal(2, 3, 5, 4, dtype=torch.float64).requires_grad_(), thetas(2, torch.float64).requires_grad_()]
        for fused in (True, False):
            assert gradcheck(lambda *both, fused=fused: ops.spatial_transformer(*both, 4, 6, fused), leaves)

    def test_gradient_is_computed_for_whom_it_is_needed(self):
        image, theta = normal(2, 3, 6, 5), thetas(2)
        both = [image.clone().requires_grad_(), theta.clone().requires_grad_()]
        want = gradients(ops.spatial_transformer(*both, 4, 7), both, normal(2, 3, 4, 7))
        for k in range(2):
            inputs = [image, theta]
            inputs[k] = both[k]
            got = gradients(ops.spatial_transformer(*inputs, 4, 7), [both[k]], normal(2, 3, 4, 7))
            assert same_bits(got[0], want[k])

    def test_a_second_derivative_is_a_sentence(self):
        image, theta = normal(1, 2, 4, 3).requires_grad_(), thetas(1)
        energy = ops.spatial_transformer(image, theta, 5, 2).pow(2).sum()
        (grad,) = torch.autograd.grad(energy, image, create_graph=True)
        with pytest.raises(NotImplementedError, match="spatial_transformer_backward: a second derivative"):
            grad.sum().backward()

    def test_strides_do_not_matter(self):
        image, grad, theta = normal(2, 5, 7, 6), normal(2, 5, 4, 8), thetas(2)

        def run(image: Tensor, theta: Tensor, grad: Tensor) -> list[Tensor]:
            leaves = [image.detach().requires_grad_(), theta.detach().requires_grad_()]
            out = ops.spatial_transformer(*leaves, 4, 8)
            return [out.detach(), *gradients(out, leaves, grad)]

        want = run(image, theta, grad)
        layouts: list[Callable[[Tensor], Tensor]] = [lambda x: x.to(memory_format=torch.channels_last),
                                                     lambda x: x.transpose(2, 3).contiguous().transpose(2, 3)]
        for layout in layouts:
            got = run(layout(image), theta.T.contiguous().T, layout(grad))
            assert all(same_bits(a, b) for a, b in zip(got, want, strict=True))
        wide = torch.stack([image, -image], -1)[..., 0]
        assert same_bits(run(wide, theta, grad)[0], want[0])
        shared = run(image[:1].expand(2, -1, -1, -1), theta[:1].expand(2, -1), grad)
        assert same_bits(shared[0][0], shared[0][1])

    @pytest.mark.parametrize(("shape", "out"), [
        ((0, 3, 5, 4), (2, 6)), ((2, 0, 5, 4), (2, 6)), ((2, 3, 5, 4), (0, 6)), ((2, 3, 5, 4), (2, 0)),
        ((2, 3, 0, 4), (2, 6)), ((2, 3, 5, 0), (2, 6)), ((0, 0, 0, 0), (0, 0))])
    def test_nothing_is_warped_to_nothing_and_to_zeros(self, shape: tuple[int, ...], out: tuple[int, int]):
        leaves = [torch.ones(shape).requires_grad_(), thetas(shape[0]).requires_grad_()]
        warped = ops.spatial_transformer(*leaves, *out)
        assert warped.shape == (*shape[:2], *out)
        if 0 in shape:
            assert not warped.any()
        d_image, d_theta = gradients(warped, leaves, torch.ones_like(warped))
        assert same_bits(d_image, torch.zeros(shape)) or warped.numel()
        if not warped.numel() or 0 in shape:
            assert same_bits(d_theta, torch.zeros(shape[0], 6))

    @pytest.mark.parametrize("kind", ["infinite", "far", "huge"])
    def test_outside_the_image_is_zero_and_gets_no_gradient(self, kind: str):
        # a NaN that came from infinity, as inf - inf or 0 * inf, would lie at pixel 0: this map has none
        row = {"infinite": (1, 0, INF), "far": (1, 0, 3e9), "huge": (1e30, 0, -3e38)}[kind]
        leaves = [torch.ones(1, 2, 5, 4).requires_grad_(), torch.tensor([[*row, 0, 1, 0]]).requires_grad_()]
        out = ops.spatial_transformer(*leaves, 3, 6)
        assert not out.any()
        assert not any(g.any() for g in gradients(out, leaves, torch.ones_like(out)))

    def test_nan_in_theta_reads_pixel_zero_with_weight_nan(self):
        leaves = [normal(1, 2, 5, 4).requires_grad_(), torch.tensor([[NAN, 0, 0, 0, 0.5, 0]]).requires_grad_()]
        out = ops.spatial_transformer(*leaves, 3, 6)
        assert out.isnan().all()  # each column lies inside
        d_image, d_theta = gradients(out, leaves, torch.ones_like(out))
        assert not d_image[:, :, 1:].any()
        assert d_theta[0, 3:].isnan().all()
        far = ops.spatial_transformer(leaves[0], torch.tensor([[NAN, 0, 0, 0, 0.5, 9]]), 3, 6)
        assert not far.any()

    def test_nothing_outside_the_image_is_read(self):
        around = torch.full((3, 1, 5, 6), NAN)  # what a careless read would find above and below
        image = around[1:2].copy_(normal(1, 1, 5, 6))
        for offset in (-1.3, -1.0, -0.999, 0.999, 1.0, 1.3):
            theta = torch.tensor([[0.9, 0.0, offset, 0.1, 1.1, offset]])
            assert_close(ops.spatial_transformer(image, theta, 7, 9).double(), warp_slowly(image, theta, 7, 9), rtol=0,
                         atol=1e-5)

    def test_an_image_with_more_than_2_31_pixels(self, tmp_path: Path):
        # a sparse file: its zeros take no room, and a small output reads few of them
        for shape, many in (((2, 3, 20_000, 20_011), 2**31), ((1, 1, 50_000, 50_021), 2**31)):
            path = tmp_path / "pixels"
            values = np.memmap(path, np.float32, "w+", shape=shape)
            assert values.size > many
            values[-1, -1, -2, -3] = 5
            image = torch.from_numpy(values)
            n, _, h, w = shape
            # cell (0, 0) of the output reads exactly that pixel
            theta = torch.zeros(n, 6)
            theta[:, 2], theta[:, 5] = 2 * (h - 2) / h - 1, 2 * (w - 3) / w - 1
            out = ops.spatial_transformer(image.view(n, -1, h, w), theta.double().float(), 1, 1)
            row, column = ((theta[0, k] + 1) * (size * torch.tensor(0.5)) for k, size in ((2, h), (5, w)))
            weight = (1 - abs(float(row) - (h - 2))) * (1 - abs(float(column) - (w - 3)))
            assert out[-1, -1].item() == pytest.approx(5 * max(weight, 0), rel=1e-5)
            del image, values
            path.unlink()

    def test_shapes_of_more_than_2_31_values_are_promised(self):
        image, theta = torch.empty(3, 2**20, 64, 64, device="meta"), torch.empty(3, 6, device="meta")
        assert ops.spatial_transformer(image, theta, 64, 128).shape == (3, 2**20, 64, 128)

    @pytest.mark.parametrize(("change", "sentence"), [
        ({"image": torch.zeros(3, 5, 4)}, r"image must be \(N, C, H, W\), got \[3, 5, 4\]"),
        ({"image": torch.zeros(2, 3, 5, 4, dtype=torch.int32)}, "image must be float or double"),
        ({"image": torch.zeros(2, 3, 5, 4, dtype=torch.half)}, "image must be float or double"),
        ({"theta": torch.zeros(2, 2, 3)}, r"theta must be \(2, 6\), got \[2, 2, 3\]"),
        ({"theta": torch.zeros(1, 6)}, r"theta must be \(2, 6\), got \[1, 6\]"),
        ({"theta": torch.zeros(2, 5)}, r"theta must be \(2, 6\), got \[2, 5\]"),
        ({"theta": torch.zeros(2, 6, dtype=torch.double)}, "theta must be Float as image is, got Double"),
        ({"out_h": -1}, "the output's size must not be negative, got -1 x 6"),
    ])
    def test_wrong_arguments_are_a_sentence(self, change: dict, sentence: str):
        arguments = {"image": torch.zeros(2, 3, 5, 4), "theta": torch.zeros(2, 6), "out_h": 7, "out_w": 6} | change
        with pytest.raises(RuntimeError, match="spatial_transformer: " + sentence):
            ops.spatial_transformer(**arguments)

    @pytest.mark.parametrize(("grad", "sentence"), [
        (torch.zeros(2, 3, 5), r"grad must be \(N, C, out_h, out_w\), got \[2, 3, 5\]"),
        (torch.zeros(2, 4, 5, 7), r"grad must be \(2, 3, out_h, out_w\), got \[2, 4, 5, 7\]"),
        (torch.zeros(2, 3, 5, 7, dtype=torch.double), "grad must be Float as image is, got Double"),
    ])
    def test_a_wrong_gradient_is_a_sentence(self, grad: Tensor, sentence: str):
        with pytest.raises(RuntimeError, match="spatial_transformer_backward: " + sentence):
            torch.ops.rmpe.spatial_transformer_backward(grad, torch.zeros(2, 3, 5, 4), torch.zeros(2, 6))

    @pytest.mark.cuda
    @pytest.mark.skipif(not (torch.cuda.is_available() and BUILT_WITH_CUDA), reason="no CUDA device, or no CUDA build")
    def test_another_device_is_a_sentence(self):
        with pytest.raises(RuntimeError, match="theta must be on the device of image"):
            ops.spatial_transformer(torch.zeros(2, 3, 5, 4, device="cuda"), torch.zeros(2, 6), 7, 6)

    @pytest.mark.skipif(BUILT_WITH_CUDA, reason="csrc/ was built with CUDA")
    @pytest.mark.parametrize("op", ["spatial_transformer", "spatial_transformer_backward", "invert_theta",
                                    "invert_theta_backward", "eltwise_affine", "eltwise_affine_backward",
                                    "prediction_heatmap"])
    def test_a_build_without_cuda_says_so(self, op: str):
        overload = getattr(torch.ops.rmpe, op).default
        arguments = [torch.zeros(1, 6) if argument.type.kind() == "TensorType" else 1
                     for argument in overload._schema.arguments if not argument.has_default_value()]
        cuda = torch._C.DispatchKeySet(torch._C.DispatchKey.CUDA)  # what a tensor on a GPU would have
        with pytest.raises(RmpeError, match=f"^{op}: csrc/ was built without CUDA, so it runs only on the CPU;"):
            overload.redispatch(cuda, *arguments)


class TestInverse:
    def test_undoes_a_map(self):
        theta = thetas(5, torch.float64)
        gamma = ops.invert_theta(theta)
        square = torch.tensor([0.0, 0, 1]).double().expand(5, 1, 3)
        product = torch.cat([gamma.view(5, 2, 3), square], 1) @ torch.cat([theta.view(5, 2, 3), square], 1)
        assert_close(product, torch.eye(3, dtype=torch.float64).expand(5, 3, 3), rtol=0, atol=1e-13)
        single = theta.float()
        assert_close(ops.invert_theta(single).double(), ops.invert_theta(single.double()), rtol=6e-8, atol=0)
        assert gradcheck(ops.invert_theta, theta.requires_grad_())

    def test_a_singular_map_gives_the_identity_and_no_gradient(self):
        theta = torch.tensor([[1.0, 2, 3, 2, 4, 5]]).requires_grad_()
        gamma = ops.invert_theta(theta)
        assert gamma.tolist() == [[1, 0, 0, 0, 1, 0]]
        assert not gradients(gamma, [theta], torch.ones(1, 6))[0].any()

    def test_almost_singular_maps_are_inverted_without_cancellation(self):
        theta = torch.tensor([[1 + 2**-52, 1, 0.5, 1, 1, 0.25]], dtype=torch.float64)
        want = torch.linalg.inv(torch.tensor([[2.0**-52, 0], [1, 1]], dtype=torch.float64))  # row 0 less row 1
        assert_close(ops.invert_theta(theta)[0, 0], want[0, 0], rtol=1e-15, atol=0)

    def test_modes_of_the_sdtn(self):
        image, theta = normal(2, 3, 8, 9, dtype=torch.float64), thetas(2, torch.float64).requires_grad_()
        warp = ops.spatial_transformer
        paper = ops.spatial_de_transformer(image, theta, 6, 7)
        assert same_bits(paper, warp(image, ops.invert_theta(theta), 6, 7))
        identity = ops.spatial_de_transformer(image, theta, 6, 7, "published-identity")
        assert same_bits(identity, warp(image, torch.tensor([[1.0, 0, 0, 0, 1, 0]] * 2, dtype=torch.float64), 6, 7))
        assert not identity.requires_grad
        ignored = ops.spatial_de_transformer(image, theta, 6, 7, "published-ignored")
        assert same_bits(ignored, warp(image, theta, 6, 7))
        with pytest.raises(ValueError, match="'paper', 'published-identity' or 'published-ignored', got 'x'"):
            ops.spatial_de_transformer(image, theta, 6, 7, "x")

    def test_paper_mode_has_the_gradient_of_its_output(self):
        leaves = [normal(2, 3, 5, 4, dtype=torch.float64).requires_grad_(), thetas(2, torch.float64).requires_grad_()]
        assert gradcheck(lambda image, theta: ops.spatial_de_transformer(image, theta, 4, 6), leaves)

    def test_brings_a_warped_picture_back(self):
        y, x = torch.meshgrid(torch.linspace(0, 1, 64), torch.linspace(0, 1, 48), indexing="ij")
        image = torch.stack([y, x, y * x])[None].double()
        theta = torch.tensor([[0.9, 0.1, 0.05, -0.1, 0.9, -0.03]], dtype=torch.float64)
        back = ops.spatial_de_transformer(ops.spatial_transformer(image, theta, 64, 48), theta, 64, 48)
        assert_close(back[..., 12:52, 12:36], image[..., 12:52, 12:36], rtol=0, atol=1e-3)

    @pytest.mark.parametrize(("call", "sentence"), [
        (lambda: ops.invert_theta(torch.zeros(2, 5)), r"invert_theta: theta must be \(N, 6\), got \[2, 5\]"),
        (lambda: ops.invert_theta(torch.zeros(2, 6).int()), "invert_theta: theta must be float or double"),
        (lambda: torch.ops.rmpe.invert_theta_backward(torch.zeros(3, 6), torch.zeros(2, 6)),
         r"invert_theta_backward: grad must be \(2, 6\), got \[3, 6\]"),
    ])
    def test_wrong_arguments_are_a_sentence(self, call: Callable, sentence: str):
        with pytest.raises(RuntimeError, match=sentence):
            call()


TORCH7_SIZES = [((9, 7), (6, 11)), ((8, 8), (8, 8)), ((5, 12), (3, 2))]  # image, output


class TestTorch7:
    @pytest.mark.parametrize(("image", "out"), TORCH7_SIZES)
    def test_converted_theta_warps_as_torch7_does(self, image: tuple[int, int], out: tuple[int, int]):
        pixels, theta = normal(3, 2, *image, dtype=torch.float64), thetas(3, torch.float64)
        want = ops.torch7_spatial_transformer(pixels, theta, *out)
        got = ops.spatial_transformer(pixels, ops.from_torch7_theta(theta, image, out), *out)
        assert_close(got, want, rtol=0, atol=1e-12)

    @pytest.mark.parametrize(("image", "out"), TORCH7_SIZES)
    def test_conversion_there_and_back(self, image: tuple[int, int], out: tuple[int, int]):
        theta = thetas(4, torch.float64)
        there = ops.from_torch7_theta(theta, image, out)
        assert_close(ops.to_torch7_theta(there, image, out), theta, rtol=0, atol=1e-14)

    def test_conversion_is_the_formula_of_equal_square_sides(self):
        n, (a, b, c) = 64, (0.9, 0.15, 0.1)
        got = ops.from_torch7_theta(torch.tensor([[a, b, c, -0.2, 1.1, -0.07]], dtype=torch.float64), (n, n), (n, n))
        assert got[0, :3].tolist() == pytest.approx([a, b, (a + b - 1 + (n - 1) * c) / n], rel=1e-14)

    def test_is_align_corners_with_rows_first(self):
        image = torch.arange(15.0, dtype=torch.float64).reshape(1, 1, 5, 3)
        assert_close(ops.torch7_spatial_transformer(image, torch.tensor([[1.0, 0, 0, 0, 1, 0]]).double(), 5, 3), image)
        down = ops.torch7_spatial_transformer(image, torch.tensor([[1.0, 0, 0.5, 0, 1, 0]]).double(), 5, 3)
        assert_close(down[:, :, :4], image[:, :, 1:])  # 0.5 of 2 is one of four steps between the rows

    def test_a_side_of_one_is_a_sentence(self):
        with pytest.raises(ValueError, match=r"each side of .* must be at least 2"):
            ops.from_torch7_theta(thetas(1), (5, 4), (1, 3))


class TestEltwiseAffine:
    @pytest.mark.parametrize("shape", [(2, 3), (2, 3, 5), (2, 3, 5, 4), (1, 9, 3, 2, 4)])
    @pytest.mark.parametrize("shared", [False, True], ids=["a channel", "shared"])
    def test_rounds_twice_or_once(self, shape: tuple[int, ...], shared: bool):
        parameters = normal(2, *([] if shared else shape[1:2]))
        x, (slope, bias) = normal(*shape), parameters
        spread = [p if shared else p.reshape(-1, *[1] * (len(shape) - 2)) for p in parameters]
        assert same_bits(ops.eltwise_affine(x, slope, bias), x * spread[0] + spread[1])
        exact = (x.double() * spread[0].double() + spread[1].double()).float()  # a product of floats is exact in double
        assert same_bits(ops.eltwise_affine(x, slope, bias, fused=True), exact)

    def test_sums_run_over_images_then_positions(self):
        x, grad, slope = normal(3, 5, 4, 7), normal(3, 5, 4, 7, seed=2), normal(5)
        leaves = [x.requires_grad_(), slope.requires_grad_(), normal(5).requires_grad_()]
        d_x, d_slope, d_bias = gradients(ops.eltwise_affine(*leaves), leaves, grad)
        assert same_bits(d_x, grad * slope.detach()[:, None, None])
        term = (grad * x.detach()).transpose(0, 1).flatten(1)
        want = np.zeros((2, 5), np.float32)
        for both in torch.stack([term, grad.transpose(0, 1).flatten(1)]).permute(2, 0, 1).numpy():
            want += both
        assert same_bits(d_slope, want[0])
        assert same_bits(d_bias, want[1])

    @pytest.mark.parametrize("parameter", [(3,), ()], ids=["a channel", "shared"])
    def test_has_the_gradient_of_its_output(self, parameter: tuple[int, ...]):
        shapes = (2, 3, 4, 2), parameter, parameter
        leaves = [normal(*shape, dtype=torch.float64).requires_grad_() for shape in shapes]
        assert gradcheck(ops.eltwise_affine, leaves)
        assert gradcheck(ops.eltwise_affine, [leaves[0].detach().transpose(2, 3).requires_grad_(), *leaves[1:]])

    def test_nothing_stays_nothing(self):
        leaves = [torch.ones(shape).requires_grad_() for shape in ((0, 3, 4), (3,), (3,))]
        out = ops.eltwise_affine(*leaves)
        assert out.shape == (0, 3, 4)
        assert not any(g.any() for g in gradients(out, leaves, out))

    def test_a_second_derivative_is_a_sentence(self):
        x = normal(2, 3).requires_grad_()
        (grad,) = torch.autograd.grad(ops.eltwise_affine(x, normal(3), normal(3)).pow(2).sum(), x, create_graph=True)
        with pytest.raises(NotImplementedError, match="eltwise_affine_backward: a second derivative"):
            grad.sum().backward()

    @pytest.mark.parametrize(("shapes", "sentence"), [
        (((3,), (3,), (3,)), r"x must be \(N, C, ...\), got \[3\]"),
        (((2, 3), (2,), (3,)), r"slope must be \(3,\), or \(\) for all channels, got \[2\]"),
        (((2, 3), (3,), (1, 3)), r"bias must be \(3,\), or \(\) for all channels, got \[1, 3\]"),
    ])
    def test_wrong_arguments_are_a_sentence(self, shapes: tuple, sentence: str):
        with pytest.raises(RuntimeError, match="eltwise_affine: " + sentence):
            ops.eltwise_affine(*(torch.zeros(shape) for shape in shapes))


def published_peak(heatmap: np.ndarray) -> tuple[float, float, float]:
    """prediction_heatmap_layer.cpp:40-90: a map goes to places x w + y of an h x w matrix; the first maximum counts."""
    h, w = heatmap.shape
    matrix = np.zeros(h * w, np.float32)
    for y, x in np.ndindex(h, w):
        matrix[x * w + y] = heatmap[y, x]
    best = int(matrix.argmax())
    return best // w, best % w, matrix[best]


class TestPredictionHeatmap:
    @pytest.mark.parametrize("side", [(16, 16), (9, 5), (12, 11), (7, 1), (1, 1)])
    def test_gives_what_the_published_loops_say(self, side: tuple[int, int]):
        maps = normal(3, 4, *side).mul(2).round()  # many are equal
        got = ops.prediction_heatmap(maps)
        want = [published_peak(m.numpy()) for m in maps.flatten(0, 1)]
        assert got.flatten(0, 1).tolist() == [pytest.approx(list(w)) for w in want]
        assert same_bits(ops.prediction_heatmap(maps.double()).float(), got)

    def test_a_wide_map_keeps_all_its_values(self):
        maps = torch.zeros(1, 2, 3, 8)
        maps[0, 0, 1, 6] = maps[0, 1, 2, 0] = 1
        assert ops.prediction_heatmap(maps).tolist() == [[[6, 1, 1], [0, 2, 1]]]

    def test_nan_is_never_greatest(self):
        maps = torch.tensor([[[[NAN, 1], [3, NAN]], [[NAN, NAN], [NAN, NAN]], [[-INF, -INF], [-INF, -2]]]])
        assert ops.prediction_heatmap(maps).tolist() == [[[0, 1, 3], [0, 0, -INF], [1, 1, -2]]]

    def test_has_no_gradient(self):
        assert not ops.prediction_heatmap(normal(1, 2, 4, 3).requires_grad_()).requires_grad

    def test_strides_do_not_matter(self):
        maps = normal(2, 3, 5, 4)
        last = maps.to(memory_format=torch.channels_last)
        assert same_bits(ops.prediction_heatmap(last), ops.prediction_heatmap(maps))

    @pytest.mark.parametrize(("maps", "sentence"), [
        (torch.zeros(3, 4, 5), r"heatmap must be \(N, J, H, W\), got \[3, 4, 5\]"),
        (torch.zeros(1, 2, 0, 5), "a map without a cell has no peak"),
        (torch.zeros(1, 2, 3, 5).long(), "heatmap must be float or double"),
    ])
    def test_wrong_arguments_are_a_sentence(self, maps: Tensor, sentence: str):
        with pytest.raises(RuntimeError, match="prediction_heatmap: " + sentence):
            ops.prediction_heatmap(maps)

    def test_nothing_has_no_peaks(self):
        assert ops.prediction_heatmap(torch.zeros(0, 3, 4, 5)).shape == (0, 3, 3)
        assert ops.prediction_heatmap(torch.zeros(2, 0, 4, 5)).shape == (2, 0, 3)


def samples() -> dict[str, list[tuple]]:
    """Arguments for each operator, some with gradients, with strides, with nothing inside."""
    image, theta, x = normal(2, 3, 5, 4), thetas(2), normal(2, 3, 4)
    last = image.to(memory_format=torch.channels_last)
    return {
        "spatial_transformer": [
            (image.clone().requires_grad_(), theta.clone().requires_grad_(), 4, 6), (last, theta, 7, 3, False),
            (image.double(), theta.double(), 4, 6), (image[:0], theta[:0], 4, 6), (image, theta, 0, 6)],
        "spatial_transformer_backward": [
            (normal(2, 3, 4, 6), image, theta), (normal(2, 3, 4, 6), last, theta, False, True, True, False),
            (normal(2, 3, 4, 6), image, theta, True, True, False, True)],
        "invert_theta": [(theta.clone().requires_grad_(),), (theta.T.contiguous().T,)],
        "invert_theta_backward": [(normal(2, 6), theta)],
        "eltwise_affine": [(x.clone().requires_grad_(), normal(3).requires_grad_(), normal(3).requires_grad_()),
                           (last, normal(3), normal(), True), (x.transpose(0, 2), normal(3), normal(3))],
        "eltwise_affine_backward": [(normal(2, 3, 4), x, normal(3), normal(3)),
                                    (normal(2, 3, 4), x, normal(), normal())],
        "prediction_heatmap": [(image,), (last,), (image.clone().requires_grad_(),)],
    }


def some_network(image: Tensor, theta: Tensor, slope: Tensor) -> Tensor:
    """All operators in one function."""
    warped = ops.spatial_transformer(image, theta, 8, 7)
    back = ops.spatial_de_transformer(ops.eltwise_affine(warped, slope, slope), theta, 6, 5)
    return ops.prediction_heatmap(back).sum() + back.sum()


@pytest.fixture
def network_inputs() -> list[Tensor]:
    return [normal(2, 3, 5, 4).requires_grad_(), thetas(2).requires_grad_(), normal(3).requires_grad_()]


def test_nothing_need_be_imported_before_the_operators():
    subprocess.run([sys.executable, "-c", "from rmpe_legacy import ops"], check=True)


class TestWhatTorchAsks:
    @pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # opcheck reads it, with torch 2.15
    @pytest.mark.parametrize("name", samples())
    def test_opcheck(self, name: str):
        for arguments in samples()[name]:
            torch.library.opcheck(getattr(torch.ops.rmpe, name).default, arguments)

    @pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])
    def test_compiles_as_one_graph(self, network_inputs: list[Tensor], dynamic: bool):
        compiled = torch.compile(some_network, fullgraph=True, dynamic=dynamic, backend="aot_eager")
        want, got = some_network(*network_inputs), compiled(*network_inputs)
        assert same_bits(got, want)
        got, want = (torch.autograd.grad(loss, network_inputs) for loss in (got, want))
        assert all(same_bits(a, b) for a, b in zip(got, want, strict=True))

    @pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # so does torch.compile
    @pytest.mark.filterwarnings("ignore:Guards may run slower on Python 3.13.0")
    def test_compiles_backward_too(self, network_inputs: list[Tensor]):
        want = torch.autograd.grad(some_network(*network_inputs), network_inputs)
        with torch._dynamo.config.patch(compiled_autograd=True):
            torch.compile(torch.Tensor.backward, backend="aot_eager")(some_network(*network_inputs))
        assert all(same_bits(leaf.grad, grad) for leaf, grad in zip(network_inputs, want, strict=True))

    @pytest.mark.parametrize("low", [torch.bfloat16, torch.float16])
    def test_autocast_computes_in_single_precision(self, low: torch.dtype):
        image, theta = normal(2, 3, 5, 4).to(low), thetas(2).to(low)
        with torch.autocast("cpu", low):
            assert same_bits(ops.spatial_transformer(image, theta, 4, 6),
                             ops.spatial_transformer(image.float(), theta.float(), 4, 6))
            assert ops.invert_theta(theta).dtype == torch.float32
            assert ops.prediction_heatmap(image).dtype == torch.float32
            assert ops.eltwise_affine(image, theta[0, :3], theta[0, 3:]).dtype == torch.float32

    def test_gradients_flow_through_autocast(self):
        image, theta = normal(2, 3, 5, 4).bfloat16().requires_grad_(), thetas(2).requires_grad_()
        with torch.autocast("cpu", torch.bfloat16):
            out = ops.spatial_transformer(image, theta, 4, 6)
        out.sum().backward()
        assert image.grad.dtype == torch.bfloat16
        assert theta.grad.dtype == torch.float32

    @pytest.mark.filterwarnings("ignore:.*torch.jit.script")  # torch's own forward mode calls it
    def test_other_derivatives_are_a_sentence(self):
        image, theta, three = normal(1, 3, 4, 3), thetas(1), normal(3)
        for call, at in ((lambda x: ops.spatial_transformer(image, x, 2, 2), theta),
                         (lambda x: ops.spatial_transformer(x, theta, 2, 2), image),
                         (ops.invert_theta, theta),
                         (lambda x: ops.eltwise_affine(image, x, three), three)):
            with pytest.raises(NotImplementedError, match="forward-mode derivatives are not available"):
                torch.func.jvp(call, (at,), (at,))
            with pytest.raises(NotImplementedError, match="forward-mode"), dual_level():
                call(make_dual(at, at))
            with pytest.raises(NotImplementedError, match="func's derivatives are not available"):
                torch.func.grad(lambda x, call=call: call(x).sum())(at)

    @pytest.mark.parametrize("dims", [(0, 0), (1, None), (None, 1), (2, 0)])
    def test_vmap_is_a_loop(self, dims: tuple[int | None, int | None]):
        images, maps = normal(3, 2, 5, 4, 6), thetas(6).view(3, 2, 6)

        def warp(image: Tensor, theta: Tensor) -> Tensor:
            return ops.spatial_transformer(image, ops.invert_theta(theta), 7, 3)

        given = [images[0] if dims[0] is None else images.movedim(0, dims[0]),
                 maps[0] if dims[1] is None else maps.movedim(0, dims[1])]
        got = torch.vmap(warp, dims)(*given)
        want = [warp(images[0 if dims[0] is None else i], maps[0 if dims[1] is None else i]) for i in range(3)]
        assert same_bits(got, torch.stack(want))
        peaks = torch.stack([ops.prediction_heatmap(image) for image in images])
        assert same_bits(torch.vmap(ops.prediction_heatmap)(images), peaks)

    def test_batched_gradients_are_a_loop(self):
        leaves = [normal(2, 3, 5, 4).requires_grad_(), thetas(2).requires_grad_()]
        out, grads = ops.spatial_de_transformer(*leaves, 4, 6), normal(7, 2, 3, 4, 6)
        got = torch.autograd.grad(out, leaves, grads, is_grads_batched=True, retain_graph=True)
        want = [gradients(out, leaves, grad) for grad in grads]
        for k in range(2):
            assert same_bits(got[k], torch.stack([w[k] for w in want]))


class Exported(torch.nn.Module):
    """The operators that exporters must see as torch's own."""

    def forward(self, image: Tensor, theta: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
        warped = ops.spatial_transformer(image, theta, 9, 11)
        back = ops.spatial_de_transformer(ops.eltwise_affine(warped, slope, slope), theta, 12, 8)
        return back, ops.prediction_heatmap(warped)


class TestExport:
    @pytest.mark.parametrize("fused", [True, False], ids=["fused", "unfused"])
    @pytest.mark.parametrize("size", [(2, 3, 256, 256), (3, 5, 64, 48), (1, 2, 9, 7)])
    def test_composite_agrees(self, size: tuple[int, ...], fused: bool):
        image, theta = normal(*size), thetas(size[0])
        want = ops.spatial_transformer(image, theta, 37, 41, fused)
        got = ops.spatial_transformer_composite(image, theta, 37, 41, fused)
        assert_close(got, want, rtol=0, atol=1e-5)

    def test_torch_export_sees_torchs_operators(self):
        inputs = (normal(2, 3, 16, 14), thetas(2), normal(3))
        program = torch.export.export(Exported(), inputs)
        names = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
        assert any("grid_sampler" in name for name in names)
        assert not any("rmpe" in name for name in names)
        for got, want in zip(program.module()(*inputs), Exported()(*inputs), strict=True):
            assert_close(got, want, rtol=0, atol=1e-5)

    def test_composite_of_the_inverse_agrees_on_singular_maps_too(self):
        theta = torch.cat([thetas(2), torch.tensor([[1.0, 2, 3, 2, 4, 5]])])

        class Inverse(torch.nn.Module):
            def forward(self, theta: Tensor) -> Tensor:
                return ops.invert_theta(theta)

        exported = torch.export.export(Inverse(), (theta,)).module()
        assert_close(exported(theta), ops.invert_theta(theta), rtol=1e-6, atol=0)

    @pytest.mark.parametrize("side", [(8, 8), (9, 5), (4, 11), (6, 1), (12, 11)])
    def test_composite_of_the_peaks_agrees(self, side: tuple[int, int]):
        class Peaks(torch.nn.Module):
            def forward(self, maps: Tensor) -> Tensor:
                return ops.prediction_heatmap(maps)

        maps = normal(3, 7, *side).mul(2).round()
        maps[0, 0] = NAN
        assert same_bits(torch.export.export(Peaks(), (maps,)).module()(maps), ops.prediction_heatmap(maps))

    @pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
    def test_onnx_sees_grid_sample(self):  # by the exporter that needs no further package
        onnx = pytest.importorskip("onnx", reason="onnx is not installed")
        runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
        inputs, file = (normal(2, 3, 16, 14), thetas(2), normal(3)), io.BytesIO()
        torch.onnx.export(Exported(), inputs, file, dynamo=False, opset_version=20)
        operators = {node.op_type for node in onnx.load_from_string(file.getvalue()).graph.node}
        assert "GridSample" in operators
        session = runtime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
        given = {i.name: x.numpy() for i, x in zip(session.get_inputs(), inputs, strict=True)}
        for got, want in zip(session.run(None, given), Exported()(*inputs), strict=True):
            assert_close(torch.from_numpy(got), want, rtol=0, atol=1e-5)


def test_grid_sample_is_something_else():
    """The map that does nothing there moves the image here by half a cell: the grids differ."""
    image, theta = normal(1, 1, 8, 4), torch.tensor([[1.0, 0, 0, 0, 1, 0]])
    assert same_bits(ops.spatial_transformer(image, theta, 8, 4), image)
    enlarged = F.grid_sample(image, F.affine_grid(theta.view(1, 2, 3), [1, 1, 16, 8], align_corners=False),
                             align_corners=False)
    assert not torch.allclose(ops.spatial_transformer(image, theta, 16, 8), enlarged, atol=0.1)
