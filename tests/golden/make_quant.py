#!/usr/bin/env python3
"""Makes quant.bin: stored types as gguf-py (pip install gguf numpy) reads and writes them.

Records until the end of the file, little-endian:
  char name[8]; int32 writes; int32 elements; int32 bytes; float values[elements]; uint8 data[bytes]
writes 0: `values` is what `data` (random bytes) stands for.
writes 1: `data` is how `values` is written.
"""
import os
import struct

import numpy as np
from gguf import GGMLQuantizationType as Type
from gguf import GGML_QUANT_SIZES, quants

READ = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K", "F16", "BF16"]
WRITE = ["Q4_0", "Q4_1", "Q8_0", "F16", "BF16"]
N = 1024

rng = np.random.default_rng(1)


def read(name, data):
    if name == "F16":
        return data.view(np.float16).astype(np.float32)
    return quants.dequantize(data, Type[name])


def write(name, values):
    if name == "F16":
        return values.astype(np.float16).view(np.uint8)
    return quants.quantize(values, Type[name])


def samples():
    """Ordinary weights, a block of zeros, a constant block, tiny and huge numbers."""
    x = rng.standard_normal(N).astype(np.float32)
    x[32:64] = 0
    x[64:96] = -0.75
    x[96:128] *= 1e-7
    x[128:160] *= 1e4
    x[160:192] = np.round(x[160:192] * 4) / 4
    return x


with open(os.path.join(os.path.dirname(__file__), "quant.bin"), "wb") as f, np.errstate(all="ignore"):
    for writes, names in ((0, READ), (1, WRITE)):
        for name in names:
            block, size = GGML_QUANT_SIZES[Type[name]]
            if writes:
                values = samples()
                data = write(name, values)
            else:
                data = rng.integers(0, 256, N // block * size, dtype=np.uint8)
                values = read(name, data)
            assert values.size == N and data.size == N // block * size
            f.write(struct.pack("<8siii", name.encode(), writes, N, data.size))
            f.write(values.astype("<f4").tobytes() + data.tobytes())
