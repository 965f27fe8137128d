"""The reference models in PyTorch, from given weights on given batches: the losses of every step as JSON, in float32 and
in float64, which tells what rounding alone does to a curve.

usage: curves.py DIR mlp|cnn|resnet|gpt sgd|adam LR

DIR/weights.safetensors holds the initial weights in TensorFlow.js' layouts, which are kept; DIR/batches.safetensors the
samples x and y and, as rows of `order`, which of them make up each step's batch.
"""
import json
import math
import re
import sys

import torch
import torch.nn.functional as F
from safetensors.torch import load_file


def layers(weights, prefix):
    """Names of the layers that start with `prefix`, in model order: TensorFlow.js numbers them through the process."""
    names = {name.split("/")[0] for name in weights if name.startswith(prefix)}
    return sorted(names, key=lambda name: int(re.search(r"\d+$", name)[0]))


def dense(weights, name, x):
    return x @ weights[f"{name}/kernel"] + weights[f"{name}/bias"]


def conv(weights, name, x, **options):
    bias = weights.get(f"{name}/bias")
    return F.conv2d(x, weights[f"{name}/kernel"].permute(3, 2, 0, 1), bias, **options)


def mlp(w, x):
    first, second, third = layers(w, "dense")
    return dense(w, third, F.relu(dense(w, second, F.relu(dense(w, first, x.flatten(1))))))


def cnn(w, x):
    (conv1, conv2), (dense1, dense2) = layers(w, "conv2d"), layers(w, "dense")
    x = F.relu(conv(w, conv2, F.relu(conv(w, conv1, x.permute(0, 3, 1, 2)))))
    x = F.max_pool2d(x, 2).permute(0, 2, 3, 1).flatten(1)
    return dense(w, dense2, F.relu(dense(w, dense1, x)))


def resnet(w, x):
    def normed(i, x, **options):
        x = conv(w, f"conv{i}", x, **options)
        return F.batch_norm(x, None, None, w[f"norm{i}/gamma"], w[f"norm{i}/beta"], training=True, eps=1e-5)

    x = x.permute(0, 3, 1, 2)
    x = F.relu(normed(1, F.relu(normed(0, x, padding=1)), padding=1) + x)
    h = normed(3, F.relu(normed(2, x, padding=1, stride=2)), padding=1)
    x = F.relu(h + normed(4, x, stride=2))
    return dense(w, "scores", x.mean((2, 3)))


def gpt(w, x, heads=4):
    def norm(name, x):
        return F.layer_norm(x, x.shape[-1:], w[f"{name}/gamma"], w[f"{name}/beta"], 1e-5)

    tokens = x.long()
    batch, context = tokens.shape
    x = w["token/embeddings"][tokens] + w["position/positions"]
    width = x.shape[-1]
    mask = torch.triu(torch.full((context, context), -1e9, dtype=x.dtype), 1)
    for i in range(len({name for name in w if name.endswith("_up/kernel")})):
        a = f"block{i}_attention"
        qkv = norm(f"block{i}_norm1", x) @ w[f"{a}/qkv"] + w[f"{a}/qkv_bias"]
        q, k, v = qkv.reshape(batch, context, 3, heads, width // heads).permute(2, 0, 3, 1, 4).unbind(0)
        attention = torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(width // heads) + mask, -1) @ v
        x = x + attention.transpose(1, 2).reshape(batch, context, width) @ w[f"{a}/out"] + w[f"{a}/out_bias"]
        up = F.gelu(dense(w, f"block{i}_up", norm(f"block{i}_norm2", x)), approximate="tanh")
        x = x + dense(w, f"block{i}_down", up)
    return norm("norm", x) @ w["head/kernel"]


def train(directory, model, optimizer, lr, dtype):
    weights = {name: value.to(dtype) for name, value in load_file(f"{directory}/weights.safetensors").items()}
    batches = load_file(f"{directory}/batches.safetensors")
    trained = [value.requires_grad_() for name, value in weights.items() if "/moving_" not in name]
    step = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[optimizer](trained, lr=float(lr))
    losses = []
    for chosen in batches["order"].long():
        scores = globals()[model](weights, batches["x"][chosen].to(dtype))
        loss = F.cross_entropy(scores.flatten(0, -2), batches["y"][chosen].long().flatten())
        step.zero_grad()
        loss.backward()
        step.step()
        losses.append(loss.item())
    return losses


float32, float64 = (train(*sys.argv[1:], dtype) for dtype in (torch.float32, torch.float64))
print(json.dumps({"torch": torch.__version__, "float32": float32, "float64": float64}))
