"""What an SPPE's heat maps can teach an STN: python tools/measure_stn_gradient.py WEIGHTS [--margin M] [--sigma CELLS]

WEIGHTS are of the demo's hourglass: tools/train_demo.py or `rmpe reproduce ablation` trains them. It takes the place
of the parallel SPPE. Measured on drawn people in disturbed boxes: its loss where theta is the identity, from which an
STN starts, and where theta shows the person in the middle; and the cosine between the step that the gradient asks for
at the identity and the way to that theta. Chance gives a cosine of 0, and a positive one for half of the people.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
import train_demo
from torch.nn.functional import cosine_similarity

from rmpe_legacy import Net, load_net, ops
from rmpe_legacy.prototxts import find

SEED = 77  # of a world that trains nothing
SCALES_AND_SHIFTS = [0, 2, 4, 5]  # of theta; the others are 0 in every true one


def hourglass(weights: Path) -> Net:
    """The SPPE as it is deployed, with a gradient for the image."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.prototxt"
        path.write_text("force_backward: true\n" + find("small/deploy").read_text())
        return load_net(path, weights, keep_blobs=True)


def losses(net: Net, batch: train_demo.Batch, theta: torch.Tensor) -> torch.Tensor:
    """(N,) of the first stack's heat maps, for what an STN with this theta shows."""
    net(data=ops.spatial_transformer(batch["data"], theta, 96, 96))
    return (net.blobs["out1"] - batch["label_center"]).square().sum(dim=(1, 2, 3)) / 2


def measure(weights: Path, batches: int) -> str:
    net, found = hourglass(weights), []
    for step in range(batches):
        batch = train_demo.pose_batch(SEED, step)
        true = batch["theta_label"]
        theta = torch.tensor(train_demo.IDENTITY).repeat(len(true), 1).requires_grad_()
        start = losses(net, batch, theta)
        start.sum().backward()
        with torch.no_grad():
            end = losses(net, batch, true)
            way = (true - theta)[:, SCALES_AND_SHIFTS]
            found.append(torch.stack([start, end, cosine_similarity(-theta.grad[:, SCALES_AND_SHIFTS], way)]))
    start, end, cosine = torch.cat(found, dim=1).detach().numpy()
    return (f"{cosine.size} people: loss at the identity {start.mean():.1f}, at the true theta {end.mean():.1f}; "
            f"cosine {cosine.mean():.2f} +- {cosine.std() / np.sqrt(cosine.size):.2f}, "
            f"positive for {(cosine > 0).mean():.0%}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("weights", type=Path)
    parser.add_argument("--batches", type=int, default=6)
    parser.add_argument("--margin", type=float, default=train_demo.MARGIN,
                        help="the SPPE's frame in training / the longer side of the person; 1.3 in the ablation")
    parser.add_argument("--sigma", type=float, default=train_demo.SIGMA * train_demo.CENTER_SIZE,
                        help="of its peaks, in cells; 1.75 in the ablation")
    args = parser.parse_args()
    train_demo.MARGIN, train_demo.SIGMA = args.margin, args.sigma / train_demo.CENTER_SIZE
    print(measure(args.weights, args.batches))


if __name__ == "__main__":
    main()
