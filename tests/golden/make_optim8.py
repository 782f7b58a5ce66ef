"""8-bit AdamW of bitsandbytes: its two maps, and STEPS steps on one tensor.

Needs torch and bitsandbytes; uses their plain torch implementation (blocks of 256).
Writes tests/golden/optim8/golden.safetensors: maps [2, 256] (signed, unsigned), and for
each step the gradient, and weights, codes and scales after it.
"""
import os
import sys
from unittest import mock

import torch
from bitsandbytes.functional import create_dynamic_map
from safetensors.torch import save_file

torch.compile = lambda function: function
for name in ("triton", "triton.language"):      # asked for by the file, not by what is used of it
    sys.modules.setdefault(name, mock.MagicMock())
from bitsandbytes.backends.triton.kernels_optim import (  # noqa: E402
    optimizer_update_8bit_blockwise_pytorch)

N, STEPS = 700, 4
torch.manual_seed(0)
maps = [create_dynamic_map(signed=True), create_dynamic_map(signed=False)]
w = torch.randn(N)
codes = [torch.full((N,), 127, dtype=torch.uint8), torch.zeros(N, dtype=torch.uint8)]
scales = [torch.zeros(3), torch.zeros(3)]
out = {"maps": torch.stack(maps), "w0": w.clone()}
for step in range(1, STEPS + 1):
    g = torch.randn(N) * torch.exp(torch.randn(N))
    out["g%d" % step] = g.clone()
    optimizer_update_8bit_blockwise_pytorch(
        w, g, codes[0], codes[1], 0.9, 0.999, 0.0, 0.0, 1e-8, step, 1e-2, maps[0], maps[1],
        scales[0], scales[1], 0.1, 0.5, False, optimizer_name="adam")
    out["w%d" % step] = w.clone()
    for k in range(2):
        out["code%d.%d" % (step, k)] = codes[k].clone()
        out["scale%d.%d" % (step, k)] = scales[k].clone()
folder = os.path.join(os.path.dirname(os.path.abspath(__file__)), "optim8")
os.makedirs(folder, exist_ok=True)
save_file(out, os.path.join(folder, "golden.safetensors"))
