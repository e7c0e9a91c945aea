"""A user's script for type checkers; it is never run. Every public name must resolve, and have the type stated here."""

from __future__ import annotations

import torch
from typing_extensions import assert_type  # fails on Any too

from rmpe_legacy import Layer, Net, RmpeError, Solver, load_net, load_pipeline, optim, register
from rmpe_legacy._host import crc32c
from rmpe_legacy.pose.pipeline import PoseResult


@register("Doubled")
class Doubled(Layer):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * x


def blobs(prototxt: str, weights: str) -> torch.Tensor:
    net = load_net(prototxt, weights)
    assert_type(net, Net)
    module: torch.nn.Module = net
    module.eval()
    try:
        return net(data=torch.zeros(1, 3, 8, 8))["prob"]
    except RmpeError as error:
        raise SystemExit(str(error)) from None


def poses(image: str) -> None:
    result = load_pipeline()(image)
    assert_type(result, PoseResult)
    result.plot("out.png")


def train(solver_prototxt: str) -> None:
    solver = Solver(solver_prototxt)
    assert_type(solver, Solver)
    assert_type(solver.net, Net)
    assert_type(solver.iter, int)
    optimizer: torch.optim.Optimizer = optim.Adam(solver.net.parameters(), lr=1e-3)
    optimizer.step()


assert_type(crc32c(b"123456789"), int)
