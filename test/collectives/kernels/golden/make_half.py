"""PyTorch's float32 -> bfloat16 and float16 of awkward and random values, as bits.

usage: /opt/torchenv/bin/python make_half.py > half.json
"""
import json
import sys

import torch


def bits_of(values, dtype):
    return [x & 0xFFFF for x in values.to(dtype).view(torch.int16).tolist()]


AWKWARD = [
    0x00000000, 0x80000000, 0x00000001, 0x807FFFFF, 0x00800000,  # zeros, subnormals
    0x3F800000, 0x3F808000, 0x3F818000, 0x3F808001, 0x3F807FFF,  # bfloat16 ties and their neighbours
    0x3F801000, 0x3F803000, 0x3F801001, 0x3F800FFF,              # float16 ties and their neighbours
    0x477FE000, 0x477FEFFF, 0x477FF000, 0x477FF001, 0xC7800000,  # around the largest float16
    0x38800000, 0x387FFFFF, 0x387FE000, 0x387FF000, 0xB87FC000,  # around the smallest normal float16
    0x33800000, 0x33000000, 0x33000001, 0x32FFFFFF, 0x33C00000,  # around the smallest subnormal float16
    0x7F7FFFFF, 0x7F7F7FFF, 0x7F7F8000, 0x7F800000, 0xFF800000,  # around the largest bfloat16, infinities
    0x7FC00000, 0xFFC00001, 0x7F800001, 0x7FFFFFFF,              # NaN
]
torch.manual_seed(1)
random = torch.randint(0, 2**32, (400,)).tolist()
near_one = [(0x3F800000 & ~0x7F800000) | (e << 23) | m
            for e, m in zip(torch.randint(95, 145, (400,)).tolist(), torch.randint(0, 2**23, (400,)).tolist())]
words = AWKWARD + random + near_one
source = torch.tensor([w - 2**32 if w >= 2**31 else w for w in words], dtype=torch.int32).view(torch.float32)
json.dump(
    {
        "command": f"python make_half.py (torch {torch.__version__})",
        "float32": words,
        "bfloat16": bits_of(source, torch.bfloat16),
        "float16": bits_of(source, torch.float16),
    },
    sys.stdout,
)
