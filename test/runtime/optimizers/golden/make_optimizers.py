"""Golden values of PyTorch's own optimizers: python3 make_optimizers.py > optimizers.json

Gradients come from a formula that is exact in float32, so that the test makes the same ones by itself.
"""
import json
import torch

LENGTH, STEPS, KEPT = 23, 100, (1, 10, 100)

CASES = [
    ("sgd", {"lr": 0.05}, lambda p: torch.optim.SGD([p], lr=0.05)),
    ("momentum", {"lr": 0.02, "momentum": 0.9, "nesterov": 0}, lambda p: torch.optim.SGD([p], lr=0.02, momentum=0.9)),
    ("momentum", {"lr": 0.01, "momentum": 0.8, "nesterov": 1},
     lambda p: torch.optim.SGD([p], lr=0.01, momentum=0.8, nesterov=True)),
    ("adam", {"lr": 0.001, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8}, lambda p: torch.optim.Adam([p], lr=0.001)),
    ("adam", {"lr": 0.01, "beta1": 0.8, "beta2": 0.95, "epsilon": 1e-3},
     lambda p: torch.optim.Adam([p], lr=0.01, betas=(0.8, 0.95), eps=1e-3)),
]


def gradient(step):
    i = torch.arange(LENGTH)
    return ((step * 31 + i * 17) % 101 - 50).float() / 64


def run(make):
    param = torch.nn.Parameter((torch.arange(LENGTH).float() - 11) / 8)
    optimizer, kept = make(param), {}
    for step in range(1, STEPS + 1):
        param.grad = gradient(step)
        optimizer.step()
        if step in KEPT:
            kept[step] = param.detach().tolist()
    return kept


cases = [{"name": name, "hyper": hyper, "params": run(make)} for name, hyper, make in CASES]
print(json.dumps({
    "command": "python3 make_optimizers.py > optimizers.json",
    "torch": torch.__version__,
    "length": LENGTH,
    "cases": cases,
}, indent=1))
