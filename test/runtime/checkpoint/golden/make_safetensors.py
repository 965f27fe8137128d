"""A file written by the format's own package, for test/runtime/checkpoint: python3 make_safetensors.py

Writes reference.safetensors (safetensors 0.8.0, numpy): float32 tensors of rank 0 to 4, one of them empty.
"""
import numpy as np
from safetensors.numpy import save_file


def numbers(*shape):
    return (np.arange(np.prod(shape, dtype=int), dtype=np.float32) / 4 - 3).reshape(shape)


save_file(
    {
        "dense/kernel": numbers(3, 5),
        "dense/bias": numbers(5),
        "scalar": numbers(),
        "empty": numbers(0, 7),
        "conv/kernel é": numbers(2, 2, 1, 3),
    },
    "reference.safetensors",
    metadata={"made_by": "make_safetensors.py"},
)
