"""PyTorch's side of bench/checkpoint.ts: torch.distributed.checkpoint of as many bytes as ResNet-18 with Adam has.

    python checkpoint_torch.py DIRECTORY waiting|background

Prints {"blocked", "durable"} in ms, of the second save: the first makes the staging memory.
"""
import json, shutil, sys, time, warnings
import torch, torch.distributed as dist
import torch.distributed.checkpoint as dcp

warnings.filterwarnings("ignore")
directory, kind = sys.argv[1:]
dist.init_process_group("gloo", init_method=f"file://{directory}.store", rank=0, world_size=1)
sizes = [1728] + [36864] * 4 + [73728, 147456, 147456, 147456, 8192] + [294912, 589824, 589824, 589824, 32768]
sizes += [1179648, 2359296, 2359296, 2359296, 131072, 5120, 10] + [512] * 38
state = {f"{slot}{i}": torch.randn(n) for slot in ("p", "m", "v") for i, n in enumerate(sizes)}

for _ in range(2):
    shutil.rmtree(directory, ignore_errors=True)
    start = time.perf_counter()
    if kind == "background":
        future = dcp.async_save(state, checkpoint_id=directory)
        blocked = time.perf_counter() - start
        getattr(future, "upload_completion", future).result()
    else:
        dcp.save(state, checkpoint_id=directory)
        blocked = time.perf_counter() - start
    durable = time.perf_counter() - start
print(json.dumps({"blocked": blocked * 1e3, "durable": durable * 1e3}))
dist.destroy_process_group()
