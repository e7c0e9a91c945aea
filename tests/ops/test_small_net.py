"""The operator behind small networks; tests/engines/test_small.py has what it computes."""

import pytest
import torch

from rmpe_legacy.ops import small_net
from rmpe_legacy.ops.small_net import INPUT, OUTPUT, Copy, encode


def copies(x: torch.Tensor) -> list[torch.Tensor]:
    """Run a network that gives its input, (N, 2, 3), as two outputs."""
    steps = [Copy(INPUT, 0, OUTPUT + i, 0, (1, 1, 6), (6, 6, 1), (6, 6, 1)) for i in range(2)]
    return small_net.small_net(x, encode(steps, 0, 0, 6, [(2, 3), (6,)]), torch.zeros(0))


def test_outputs_have_their_shapes():
    x = torch.randn(4, 2, 3)
    first, second = copies(x)
    assert torch.equal(first, x)
    assert torch.equal(second, x.flatten(1))


@pytest.mark.parametrize(("x", "sentence"), [
    (torch.zeros(2, 2, 3).double(), "small_net: x must be float, got Double"),
    (torch.zeros(2, 2, 4), r"small_net: x must have 6 values per image, got \[2, 2, 4\]"),
    (torch.tensor(0.0), r"small_net: x must have 6 values per image, got \[\]")])
def test_wrong_inputs_are_a_sentence(x: torch.Tensor, sentence: str):
    with pytest.raises(RuntimeError, match=sentence):
        copies(x)


def test_results_have_no_gradient():
    assert not any(value.requires_grad for value in copies(torch.zeros(1, 2, 3, requires_grad=True)))
