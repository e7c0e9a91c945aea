"""Train the last layer of a Caffe network with a PyTorch optimizer; the other layers stay as they are.

python fine_tune.py deploy.prototxt net.caffemodel tuned.pt
"""

import sys

import torch

from rmpe_legacy import load_net


def main(prototxt: str, caffemodel: str, destination: str, steps: int = 20) -> None:
    torch.manual_seed(0)
    net = load_net(prototxt, caffemodel)
    (name, shape), = net.inputs.items()
    images = torch.rand(shape)  # your batches go here
    with torch.no_grad():
        targets = {blob: value + 0.1 for blob, value in net({name: images}).items()}

    *frozen, last = net.params
    for layer in frozen:
        for parameter in net.params[layer]:
            parameter.requires_grad_(False)
    optimizer = torch.optim.SGD(net.params[last], lr=0.01, momentum=0.9)
    for step in range(steps):
        optimizer.zero_grad()
        outputs = net({name: images})
        loss = sum(torch.nn.functional.mse_loss(outputs[blob], targets[blob]) for blob in targets)
        loss.backward()
        optimizer.step()
        if step in (0, steps - 1):
            print(f"step {step}: loss {loss.item():.6f}")
    torch.save(net.state_dict(), destination)  # to convert it: rmpe convert PROTOTXT tuned.pt OUT


if __name__ == "__main__":
    main(*sys.argv[1:])
