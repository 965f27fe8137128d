"""Forward + backward of ResNet-18 on 32×32×3, batch 32, in PyTorch: what peers/torch_step.py does for the other models.

usage: torch_resnet18.py PEERS [THREADS], where PEERS holds torch_step.py
"""
import sys

import torch
import torch.nn as nn

sys.path.insert(0, sys.argv[1])
from torch_step import Block, measure  # noqa: E402


def resnet18():
    stages = [block for i in range(4) for block in (
        Block(64 * 2 ** max(i - 1, 0), 64 * 2 ** i, 2 if i > 0 else 1), Block(64 * 2 ** i, 64 * 2 ** i, 1))]
    model = nn.Sequential(
        nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU(), *stages,
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10))
    return model, torch.randn(32, 3, 32, 32), torch.randint(0, 10, (32,))


if __name__ == "__main__":
    torch.set_num_threads(int(sys.argv[2]) if len(sys.argv) > 2 else 1)
    measure("resnet18", *resnet18(), rounds=5)
