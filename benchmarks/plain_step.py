"""The network of the profile cifar10-long as a short torch program, to compare its training step with the profile's.

Nothing of the package is used: modules and the fused AdamW of torch, no augmentation, no sums over ranks, no checks. It
is a lower bound of what a program takes that is written by hand for one network.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional


class Stage(nn.Module):
    """Two convolutions with batch normalisation, the first with pooling; the second is added."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norms = nn.ModuleList([nn.BatchNorm2d(outputs), nn.BatchNorm2d(outputs)])

    def forward(self, x: Tensor) -> Tensor:
        y = functional.gelu(self.norms[0](functional.max_pool2d(self.first(x), 2)))
        return y + functional.gelu(self.norms[1](self.second(y)))


class PlainNetwork(nn.Module):
    """Whitening of patches, three stages, a fixed reservoir over the positions of the map, and two layers."""

    def __init__(self, classes: int = 10, nodes: int = 1000, width: int = 256) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 12, 2, bias=False).requires_grad_(False)
        self.stages = nn.ModuleList([Stage(24, 64), Stage(64, 256), Stage(256, 256)])
        self.norm = nn.BatchNorm2d(256)
        generator = torch.Generator().manual_seed(0)
        scale = 0.9 / nodes**0.5
        self.register_buffer("recurrent", scale * torch.randn(nodes, nodes, generator=generator))
        self.register_buffer("inputs", 0.05 * (2 * torch.rand(256, nodes, generator=generator) - 1))
        self.outputs = nn.Linear(2 * nodes, width)
        self.hidden = nn.Linear(width, width)
        self.scores = nn.Linear(width, classes)

    def forward(self, images: Tensor) -> Tensor:
        x = self.patches(images)
        x = functional.gelu(torch.cat([x, -x], 1))
        for stage in self.stages:
            x = stage(x)
        steps = self.norm(x).flatten(2).permute(2, 0, 1)
        driven = steps @ self.inputs.to(steps.dtype)
        state, states = torch.zeros_like(driven[0]), []
        for step in driven:
            state = torch.tanh(step + state @ self.recurrent.to(step.dtype))
            states.append(state)
        every = torch.stack(states, 1)
        features = torch.cat([every.mean(1), every.float().std(1).to(every.dtype)], 1)
        return self.scores(functional.relu(self.hidden(functional.relu(self.outputs(features)))))


def plain_step(rows: int, device: torch.device, bfloat16: bool = True) -> Callable[[], None]:
    """Return what takes one step on random images that stay on the device."""
    network = PlainNetwork().to(device, memory_format=torch.channels_last).train()
    trained = [weights for weights in network.parameters() if weights.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-3, fused=True, capturable=device.type == "cuda")
    images = torch.rand(rows, 3, 32, 32, device=device).contiguous(memory_format=torch.channels_last)
    labels = torch.arange(rows, device=device) % 10

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
            loss = functional.cross_entropy(network(images).float(), labels, label_smoothing=0.1)
        loss.backward()
        optimizer.step()

    return step
