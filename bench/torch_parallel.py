"""What bench/pipeline.ts measures, in PyTorch over Gloo: two processes, one thread each; prints one line of JSON.

usage: torch_parallel.py STEPS MICRO_BATCHES WIDTH DEPTH BATCH
"""
import json
import os
import sys
import time
import warnings

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn as nn
import torch.nn.functional as F

STEPS, MICRO_BATCHES, WIDTH, DEPTH, BATCH = map(int, sys.argv[1:6])
CONTEXT, VOCABULARY, HEADS, WARM_UP = 64, 256, 4, 3


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.q, self.k, self.v, self.out = (nn.Linear(WIDTH, WIDTH) for _ in range(4))

    def forward(self, x):
        batch, context, _ = x.shape
        heads = lambda y: y.view(batch, context, -1, WIDTH // HEADS).transpose(1, 2)
        y = F.scaled_dot_product_attention(heads(self.q(x)), heads(self.k(x)), heads(self.v(x)), is_causal=True)
        return self.out(y.transpose(1, 2).reshape(batch, context, -1))


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.attention = Attention()
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x):
        x = x + self.attention(self.norm1(x))
        return x + self.down(F.gelu(self.up(self.norm2(x)), approximate="tanh"))


class Embedding(nn.Module):
    def __init__(self):
        super().__init__()
        self.token = nn.Embedding(VOCABULARY, WIDTH)
        self.position = nn.Parameter(torch.randn(CONTEXT, WIDTH) * 0.02)

    def forward(self, x):
        return self.token(x) + self.position


def gpt():
    torch.manual_seed(0)
    head = nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, VOCABULARY, bias=False))
    return nn.Sequential(Embedding(), *[Block() for _ in range(DEPTH)], head)


def loss_of(logits, labels):
    return F.cross_entropy(logits.flatten(0, 1), labels.flatten())


def ways(rank):
    """Each a function that takes one step; None where this torch has not got it."""
    from torch.distributed.device_mesh import init_device_mesh

    mesh = init_device_mesh("cpu", (2,))
    own = torch.randint(0, VOCABULARY, (BATCH // 2, CONTEXT))
    all = torch.randint(0, VOCABULARY, (BATCH, CONTEXT), generator=torch.Generator().manual_seed(1))

    def plain(model, x, optimizer=None):
        optimizer = optimizer or torch.optim.Adam(model.parameters(), lr=1e-3)

        def step():
            optimizer.zero_grad()
            loss_of(model(x), x).backward()
            optimizer.step()

        return step

    def zero1():
        from torch.distributed.optim import ZeroRedundancyOptimizer

        model = nn.parallel.DistributedDataParallel(gpt())
        return plain(model, own, ZeroRedundancyOptimizer(model.parameters(), torch.optim.Adam, lr=1e-3))

    def zero3():
        from torch.distributed.fsdp import fully_shard

        model = gpt()
        for block in model:
            fully_shard(block, mesh=mesh)
        return plain(fully_shard(model, mesh=mesh), own)

    def pipeline(name):
        from torch.distributed import pipelining

        model, half = gpt(), 1 + DEPTH // 2
        part = model[:half] if rank == 0 else model[half:]
        stage = pipelining.PipelineStage(part, rank, 2, torch.device("cpu"))
        schedule = getattr(pipelining, name)(stage, MICRO_BATCHES, loss_fn=loss_of)
        optimizer = torch.optim.Adam(part.parameters(), lr=1e-3)

        def step():
            optimizer.zero_grad()
            schedule.step(all) if rank == 0 else schedule.step(target=all)
            optimizer.step()

        return step

    def tensor():
        from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

        model = gpt()
        plan = {"attention.out": RowwiseParallel(), "up": ColwiseParallel(), "down": RowwiseParallel()}
        plan |= {f"attention.{name}": ColwiseParallel() for name in "qkv"}
        for block in model[1:-1]:
            parallelize_module(block, mesh, plan)
        return plain(model, all)

    yield "dp2 (DDP)", lambda: plain(nn.parallel.DistributedDataParallel(gpt()), own)
    yield "zero 1 (ZeroRedundancyOptimizer)", zero1
    yield "zero 3 (FSDP)", zero3
    yield "pp2 (1F1B)", lambda: pipeline("Schedule1F1B")
    yield "pp2 (GPipe)", lambda: pipeline("ScheduleGPipe")
    yield "tp2 (parallelize_module)", tensor


def run(rank):
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": PORT}
    dist.init_process_group("gloo", rank=rank, world_size=2)
    steps, missing = {}, {}
    for name, make in ways(rank):
        try:
            steps[name] = make()
            steps[name]()
        except Exception as error:
            steps.pop(name, None)
            missing[name] = str(error).splitlines()[0]
    times = {name: [] for name in steps}
    for step in range(-WARM_UP, STEPS):
        for name, take in steps.items():
            dist.barrier()
            start = time.perf_counter()
            take()
            if step >= 0:
                times[name].append((time.perf_counter() - start) * 1e3)
    if rank == 0:
        median = lambda numbers: sorted(numbers)[len(numbers) // 2]
        plain = times["dp2 (DDP)"]
        rows = [
            {
                "ranks": name,
                "medianMs": round(median(ms), 2),
                "tokensPerSecond": round(BATCH * CONTEXT * 1e3 / median(ms)),
                "relative": round(median([a / b for a, b in zip(plain, ms)]), 3),
            }
            for name, ms in times.items()
        ]
        print(json.dumps({"throughput": rows, "missing": missing}))
    dist.destroy_process_group()


def free_port():
    import socket

    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return str(listening.getsockname()[1])


if __name__ == "__main__":
    PORT = os.environ.setdefault("BENCH_PORT", free_port())
    mp.spawn(run, nprocs=2)
else:
    PORT = os.environ["BENCH_PORT"]
