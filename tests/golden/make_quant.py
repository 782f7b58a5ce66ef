#!/usr/bin/env python3
"""Makes quant.bin: stored types as GGML reads and writes them.

Usage: make_quant.py libggml-base.so
gguf-py (pip install gguf numpy) does all but the writing of K-quants, for which the
library of GGML's C code is asked.

Records until the end of the file, little-endian:
  char name[8]; int32 writes; int32 elements; int32 bytes; float values[elements]; uint8 data[bytes]
writes 0: `values` is what `data` (random bytes) stands for.
writes 1: `data` is how `values` is written.
"""
import ctypes
import os
import struct
import sys

import numpy as np
from gguf import GGMLQuantizationType as Type
from gguf import GGML_QUANT_SIZES, quants

READ = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL",
        "IQ4_XS", "TQ1_0", "TQ2_0", "MXFP4", "F16", "BF16"]
WRITE = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K", "F16", "BF16"]
N = 1024

rng = np.random.default_rng(1)


def read(name, data):
    if name == "F16":
        return data.view(np.float16).astype(np.float32)
    return quants.dequantize(data, Type[name])


def write(name, values):
    if name == "F16":
        return values.astype(np.float16).view(np.uint8)
    if name.endswith("_K"):
        return write_c(name, values)
    return quants.quantize(values, Type[name])


def write_c(name, values):
    ggml = ctypes.CDLL(sys.argv[1])
    ggml.ggml_quantize_chunk.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p,
                                         ctypes.c_int64, ctypes.c_int64, ctypes.c_int64,
                                         ctypes.c_void_p]
    block, size = GGML_QUANT_SIZES[Type[name]]
    data = np.zeros(N // block * size, dtype=np.uint8)
    ggml.ggml_quantize_chunk(Type[name], values.ctypes.data, data.ctypes.data, 0, 1, N, None)
    return data


def samples():
    """Ordinary weights, blocks of zeros, constant ones, tiny and huge numbers."""
    x = rng.standard_normal(N).astype(np.float32)
    x[32:64] = 0
    x[64:96] = -0.75
    x[96:128] *= 1e-7
    x[128:160] *= 1e4
    x[160:192] = np.round(x[160:192] * 4) / 4
    x[256:512] = 0
    x[512:768] = 0.02 * np.abs(x[512:768])
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
