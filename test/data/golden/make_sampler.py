"""Writes sampler.json: what torch.utils.data.DistributedSampler gives, for test/data/distributed-sampler.test.ts.

    python3 test/data/golden/make_sampler.py > test/data/golden/sampler.json
    npx biome format --write test/data/golden/sampler.json

torch 1.13.0 and torch 2.13.0 write the same file but for the "torch" line.
"""
import hashlib
import itertools
import json
import struct
import sys

import torch
from torch.utils.data import DistributedSampler


def shard(n, world, rank, shuffle, seed, epoch, drop_last):
    sampler = DistributedSampler(
        range(n), num_replicas=world, rank=rank, shuffle=shuffle, seed=seed, drop_last=drop_last
    )
    sampler.set_epoch(epoch)
    indices = list(sampler)
    assert len(sampler) == len(indices)
    return indices


def sha256(indices):
    return hashlib.sha256(struct.pack(f"<{len(indices)}I", *indices)).hexdigest()


def case(n, world, shuffle, seed, epoch, drop_last):
    shards = [shard(n, world, rank, shuffle, seed, epoch, drop_last) for rank in range(world)]
    options = {
        "length": n, "size": world, "shuffle": shuffle, "seed": seed, "epoch": epoch, "dropLast": drop_last
    }
    if n <= 10:
        return {**options, "shards": shards}
    assert len({len(s) for s in shards}) == 1
    return {**options, "perRank": len(shards[0]), "sha256": sha256(sum(shards, []))}


cases = [
    case(n, world, shuffle, seed, epoch, drop_last)
    for n, world, (shuffle, seed, epoch), drop_last in itertools.product(
        [1, 2, 3, 10, 97, 1000, 10000],
        [1, 2, 3, 4, 7, 16],
        [(False, 0, 0), (True, 0, 0), (True, 0, 1), (True, 42, 5)],
        [False, True],
    )
]
# seeds around 32 bits, below zero, and the largest exact ones; lengths beyond 100,000
cases += [case(97, 2, True, s, 3, False) for s in [-1, -4, 2**31, 2**32 - 1, 2**32 + 7, 2**53 - 10]]
cases += [case(n, w, True, 1234, 2, d) for n, w, d in [(60000, 4, False), (123457, 3, False), (1000003, 8, True)]]

lines = ",\n    ".join(json.dumps(c, separators=(",", ":")) for c in cases)
command = "python3 test/data/golden/make_sampler.py > test/data/golden/sampler.json"
sys.stdout.write(
    f'{{\n  "command": "{command}",\n  "torch": "{torch.__version__}",\n  "cases": [\n    {lines}\n  ]\n}}\n'
)
