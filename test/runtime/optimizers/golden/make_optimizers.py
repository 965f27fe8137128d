"""Golden values of optimizers, clipping and schedules: python3 make_optimizers.py > optimizers.json

PyTorch's own in float32, as its users have them; LAMB and Lion, which it has not, from their papers in NumPy, in float64.
Gradients come from a formula that is exact in float32, so that the test makes
the same ones by itself. The parameters are a matrix of 16 numbers, "dense/kernel", and a vector of 7, "dense/bias".
"""
import json
import warnings
import numpy as np
import torch
from torch.nn.utils import clip_grad_norm_, clip_grad_value_
from torch.optim import lr_scheduler as schedulers

warnings.filterwarnings("ignore")
KERNEL, LENGTH, STEPS, KEPT = 16, 23, 100, (1, 10, 100)


def start():
    return (np.arange(LENGTH) - 11) / 8


def gradient(step):
    return ((step * 31 + np.arange(LENGTH) * 17) % 101 - 50) / 64


def run_torch(make, clip=lambda params: None, masked=0.0, schedule=None):
    """`masked` is the weight decay of the kernel alone; make's own options hold for both."""
    tensors = [torch.nn.Parameter(torch.tensor(part, dtype=torch.float32)) for part in np.split(start(), [KERNEL])]
    groups = [{"params": tensors[:1]}, {"params": tensors[1:]}]
    if masked:
        groups[0]["weight_decay"], groups[1]["weight_decay"] = masked, 0.0
    optimizer, kept = make(groups), {}
    scheduler = schedule(optimizer) if schedule else None
    for step in range(1, STEPS + 1):
        for tensor, part in zip(tensors, np.split(gradient(step), [KERNEL])):
            tensor.grad = torch.tensor(part, dtype=torch.float32)
        clip(tensors)
        optimizer.step()
        if scheduler:
            scheduler.step()
        if step in KEPT:
            kept[step] = torch.cat([t.detach() for t in tensors]).tolist()
    return kept


def run_numpy(update):
    """`update(parameter, gradient, state, step)` returns the new parameter."""
    tensors, states, kept = np.split(start(), [KERNEL]), [{}, {}], {}
    for step in range(1, STEPS + 1):
        gradients = np.split(gradient(step), [KERNEL])
        tensors = [update(p, g, state, step) for p, g, state in zip(tensors, gradients, states)]
        if step in KEPT:
            kept[step] = np.concatenate(tensors).tolist()
    return kept


def lamb(lr, beta1=0.9, beta2=0.999, epsilon=1e-6, weight_decay=0.01):
    """You et al. 2020, algorithm 2, phi the identity."""
    def update(x, g, state, step):
        m = state["m"] = beta1 * state.get("m", 0) + (1 - beta1) * g
        v = state["v"] = beta2 * state.get("v", 0) + (1 - beta2) * g ** 2
        r = (m / (1 - beta1 ** step)) / (np.sqrt(v / (1 - beta2 ** step)) + epsilon)
        u = r + weight_decay * x
        return x - lr * np.linalg.norm(x) / np.linalg.norm(u) * u
    return update


def lion(lr, beta1=0.9, beta2=0.99, weight_decay=0.0):
    """Chen et al. 2023, algorithm 2."""
    def update(theta, g, state, step):
        m = state.get("m", 0)
        c = beta1 * m + (1 - beta1) * g
        state["m"] = beta2 * m + (1 - beta2) * g
        return theta - lr * (np.sign(c) + weight_decay * theta)
    return update


def case(name, lr, make=None, options=None, numpy=None, **extra):
    """One row: what the test gives to Lockstep, and what must come of it."""
    params = run_numpy(numpy) if numpy else run_torch(make, **extra.pop("torch", {}))
    return {"name": name, "lr": lr, "options": options or {}, **extra, "params": params}


SGD, Adam, AdamW = torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW
Adagrad, RMSprop = torch.optim.Adagrad, torch.optim.RMSprop
CASES = [
    case("sgd", 0.05, lambda p: SGD(p, lr=0.05)),
    case("sgd", 0.05, lambda p: SGD(p, lr=0.05, weight_decay=0.1), {"weightDecay": 0.1}),
    case("momentum", 0.02, lambda p: SGD(p, lr=0.02, momentum=0.9), {"momentum": 0.9}),
    case("momentum", 0.01, lambda p: SGD(p, lr=0.01, momentum=0.8, nesterov=True), {"momentum": 0.8, "nesterov": True}),
    case("momentum", 0.01, lambda p: SGD(p, lr=0.01, momentum=0.9, nesterov=True, weight_decay=0.05),
         {"nesterov": True, "weightDecay": 0.05}),
    case("adam", 0.001, lambda p: Adam(p, lr=0.001)),
    case("adam", 0.01, lambda p: Adam(p, lr=0.01, betas=(0.8, 0.95), eps=1e-3),
         {"beta1": 0.8, "beta2": 0.95, "epsilon": 1e-3}),
    case("adam", 0.01, lambda p: Adam(p, lr=0.01, weight_decay=0.1), {"weightDecay": 0.1}),
    case("adamw", 0.001, lambda p: AdamW(p, lr=0.001)),
    case("adamw", 0.01, lambda p: AdamW(p, lr=0.01, betas=(0.8, 0.95), weight_decay=0.3),
         {"beta1": 0.8, "beta2": 0.95, "weightDecay": 0.3}),
    case("adagrad", 0.01, lambda p: Adagrad(p, lr=0.01)),
    case("adagrad", 0.1, lambda p: Adagrad(p, lr=0.1, lr_decay=0.02, weight_decay=0.1, initial_accumulator_value=0.2,
                                           eps=1e-3),
         {"lrDecay": 0.02, "weightDecay": 0.1, "initialAccumulator": 0.2, "epsilon": 1e-3}),
    case("rmsprop", 0.01, lambda p: RMSprop(p, lr=0.01)),
    case("rmsprop", 0.001, lambda p: RMSprop(p, lr=0.001, alpha=0.9, momentum=0.8, weight_decay=0.1, eps=1e-3),
         {"alpha": 0.9, "momentum": 0.8, "weightDecay": 0.1, "epsilon": 1e-3}),
    case("rmsprop", 0.001, lambda p: RMSprop(p, lr=0.001, alpha=0.9, centered=True),
         {"alpha": 0.9, "centered": True}),
    case("rmsprop", 0.001, lambda p: RMSprop(p, lr=0.001, centered=True, momentum=0.5),
         {"centered": True, "momentum": 0.5}),
    case("lamb", 0.001, numpy=lamb(0.001)),
    case("lamb", 0.01, None, {"beta1": 0.8, "beta2": 0.95, "epsilon": 1e-3, "weightDecay": 0.1},
         lamb(0.01, 0.8, 0.95, 1e-3, 0.1)),
    case("lion", 0.001, numpy=lion(0.001)),
    case("lion", 0.01, None, {"beta1": 0.8, "beta2": 0.95, "weightDecay": 0.3}, lion(0.01, 0.8, 0.95, 0.3)),
    # Weight decay of the kernel alone.
    case("sgd", 0.05, lambda p: SGD(p, lr=0.05), {"weightDecay": 0.1}, masked=True, torch={"masked": 0.1}),
    case("momentum", 0.02, lambda p: SGD(p, lr=0.02, momentum=0.9), {"weightDecay": 0.1}, masked=True,
         torch={"masked": 0.1}),
    case("adam", 0.01, lambda p: Adam(p, lr=0.01), {"weightDecay": 0.1}, masked=True, torch={"masked": 0.1}),
    case("adamw", 0.01, lambda p: AdamW(p, lr=0.01), {"weightDecay": 0.3}, masked=True, torch={"masked": 0.3}),
    # The norms of the gradients are between 2.11 and 2.26: some are clipped at 2.2, all at 0.5.
    *[case(name, lr, make, clip={"norm": norm}, torch={"clip": lambda p, n=norm: clip_grad_norm_(p, n)})
      for norm in (0.5, 2.2)
      for name, lr, make in [("sgd", 0.05, lambda p: SGD(p, lr=0.05)), ("adam", 0.01, lambda p: Adam(p, lr=0.01))]],
    *[case(name, lr, make, clip={"value": 0.25}, torch={"clip": lambda p: clip_grad_value_(p, 0.25)})
      for name, lr, make in [("sgd", 0.05, lambda p: SGD(p, lr=0.05)), ("adamw", 0.01, lambda p: AdamW(p, lr=0.01))]],
    case("adam", {"schedule": "cosine", "lr": 0.01, "steps": 80}, lambda p: Adam(p, lr=0.01),
         # T_max 80 and a constant 0 afterwards, where PyTorch's would rise again.
         torch={"schedule": lambda o: schedulers.LambdaLR(
             o, lambda t: (1 + np.cos(np.pi * min(t, 80) / 80)) / 2)}),
    case("momentum", {"schedule": "oneCycle", "peak": 0.05, "steps": 101}, lambda p: SGD(p, lr=0.1, momentum=0.9),
         torch={"schedule": lambda o: schedulers.OneCycleLR(o, 0.05, total_steps=101, cycle_momentum=False)}),
]


def rates(make, lr=0.1, steps=STEPS):
    optimizer = SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)
    scheduler, found = make(optimizer), []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def warmup(factor, steps, then):
    return lambda o: schedulers.SequentialLR(
        o, [schedulers.LinearLR(o, start_factor=factor, total_iters=steps), then(o)], milestones=[steps])


SCHEDULES = [
    {"settings": {"schedule": "constant", "lr": 0.1},
     "rates": rates(lambda o: schedulers.ConstantLR(o, factor=1.0))},
    {"settings": {"schedule": "linearWarmup", "steps": 10, "from": 0.25, "next": 0.1},
     "rates": rates(lambda o: schedulers.LinearLR(o, start_factor=0.25, total_iters=10))},
    {"settings": {"schedule": "linearWarmup", "steps": 20, "from": 0.1,
                  "next": {"schedule": "cosine", "lr": 0.1, "steps": 80, "floor": 0.01}},
     "rates": rates(warmup(0.1, 20, lambda o: schedulers.CosineAnnealingLR(o, T_max=80, eta_min=0.01)))},
    {"settings": {"schedule": "cosine", "lr": 0.1, "steps": 100, "floor": 0},
     "rates": rates(lambda o: schedulers.CosineAnnealingLR(o, T_max=100))},
    {"settings": {"schedule": "stepDecay", "lr": 0.1, "every": 30, "factor": 0.1},
     "rates": rates(lambda o: schedulers.StepLR(o, step_size=30))},
    {"settings": {"schedule": "exponentialDecay", "lr": 0.1, "factor": 0.97},
     "rates": rates(lambda o: schedulers.ExponentialLR(o, gamma=0.97))},
    {"settings": {"schedule": "oneCycle", "peak": 0.1, "steps": 101, "rise": 0.3, "divide": 25, "finalDivide": 1e4},
     "rates": rates(lambda o: schedulers.OneCycleLR(o, 0.1, total_steps=101, cycle_momentum=False))},
    {"settings": {"schedule": "oneCycle", "peak": 0.1, "steps": 101, "rise": 0.15, "divide": 10, "finalDivide": 50},
     "rates": rates(lambda o: schedulers.OneCycleLR(o, 0.1, total_steps=101, pct_start=0.15, div_factor=10,
                                                    final_div_factor=50, cycle_momentum=False))},
]

print(json.dumps({
    "command": "python3 make_optimizers.py > optimizers.json",
    "torch": torch.__version__,
    "kernel": KERNEL,
    "length": LENGTH,
    "cases": CASES,
    "schedules": SCHEDULES,
}, indent=1))
