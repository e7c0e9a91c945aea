"""Write rmpe_legacy/models/networks.json: the parameters' shapes of the networks in prototxt/, by which
`rmpe identify` recognises weights. A test holds the file to the prototxts.

    python tools/make_network_shapes.py
"""

from __future__ import annotations

import json
from pathlib import Path

from rmpe_legacy.caffe.layers.base import shape_text
from rmpe_legacy.caffe.load import read_net

ROOT = Path(__file__).parents[1]
TARGET = ROOT / "rmpe_legacy" / "models" / "networks.json"
NETWORKS = {
    "ssd500/deploy.prototxt": "SSD 500 x 500 person detector on VGG16",
    "sppe_sstn/deploy.prototxt": "2-stack hourglass with ResNet-18 STN and SDTN",
    "sppe_sstn_affine/deploy.prototxt": "2-stack hourglass with EltwiseAffine, SqueezeNet STN and SDTN",
    "demo/ssd_deploy.prototxt": "the demo's detector of drawn people",
    "demo/pose_deploy.prototxt": "the demo's pose network of drawn people",
}


def network_shapes() -> dict[str, dict]:
    """The file's content: prototxt -> what it is, and layer -> shapes of its parameters."""
    out = {}
    for name, title in NETWORKS.items():
        steps = read_net(ROOT / "prototxt" / name, de_transform="paper").wire()
        layers = {step.layer.spec.name: [shape_text(d.shape) for d in step.layer.declared]
                  for step in steps if step.layer.declared}
        out[name] = {"title": title, "layers": layers}
    return out


def main() -> None:
    lines = [f'{json.dumps(name)}: {{"title": {json.dumps(content["title"])}, "layers": {{\n  '
             + ",\n  ".join(f"{json.dumps(layer)}: {json.dumps(shapes)}" for layer, shapes in content["layers"].items())
             + "}}" for name, content in network_shapes().items()]
    TARGET.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
