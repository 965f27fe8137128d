"""PyTorch's side of bench/startup.ts, for torchrun: an all-reduce of one number over Gloo, then what memory it took."""
import json, os, re, resource
import torch, torch.distributed as dist

dist.init_process_group("gloo")
dist.all_reduce(torch.tensor([float(dist.get_rank())]))
with open(f"/proc/{os.getppid()}/status") as status:
    launcher = int(re.search(r"VmHWM:\s+(\d+)", status.read())[1]) / 1024
rank = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({"rank": rank, "launcher": launcher}), flush=True)
dist.destroy_process_group()
