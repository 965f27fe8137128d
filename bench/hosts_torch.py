"""One rank of bench/hosts.ts in PyTorch: orders as lines of JSON on stdin, {"model", "ddp", "milliseconds"}; answers on stdout.

usage: hosts_torch.py PEERS, where PEERS holds torch_step.py; RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT and
GLOO_SOCKET_IFNAME in the environment
"""
import json
import os
import sys
import time

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch.nn.parallel import DistributedDataParallel

sys.path.insert(0, sys.argv[1])
sys.path.insert(0, os.path.dirname(__file__))
import torch_step  # noqa: E402
from torch_resnet18 import resnet18  # noqa: E402

torch.set_num_threads(1)
dist.init_process_group("gloo")


def train(order):
    torch.manual_seed(0)
    net, x, y = resnet18() if order["model"] == "resnet18" else getattr(torch_step, order["model"])()
    model = DistributedDataParallel(net) if order["ddp"] else net
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

    def timed():
        start = time.perf_counter()
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
        return (time.perf_counter() - start) * 1e3

    timed()  # buckets are made anew after the first
    dist.barrier()
    guess = torch.tensor([max(timed(), timed())])
    dist.all_reduce(guess, dist.ReduceOp.MAX)
    steps = min(30, max(3, round(order["milliseconds"] / guess.item())))
    cpu = time.process_time()
    times = sorted(timed() for _ in range(steps))
    return {"medianMs": times[steps // 2], "steps": steps, "cpuMs": (time.process_time() - cpu) / steps * 1e3}


print(json.dumps({"ready": torch.__version__}), flush=True)
for line in sys.stdin:
    print(json.dumps(train(json.loads(line))), flush=True)
dist.destroy_process_group()
