#!/usr/bin/env python3
"""LoftQ by PEFT on weights of the tiny Llama: B A for NF4 blocks of 64 that stay (as
replace_lora_weights_loftq), and how much is left of W - Q after 0, 1 and 5 rounds of
loftq_init.  PEFT's functions run on the processor in place of a GPU.

    cd tests/golden/peft && python ../make_loftq.py
"""
import inspect
import json

import bitsandbytes as bnb
import torch
from peft.utils import loftq_utils
from safetensors.torch import load_file

RANK = 4
NAMES = ["model.layers.0.self_attn.q_proj", "model.layers.1.mlp.down_proj"]


def dequantize(q, state):
    """bitsandbytes 0.50.2 has rows that are narrower than a block wrong on processors."""
    q = q.reshape(-1)
    codes = torch.stack([q >> 4, q & 15], 1).reshape(-1).long()
    values = state.code[codes] * state.absmax.repeat_interleave(state.blocksize)
    return values[:state.shape.numel()].reshape(state.shape)


def on_cpu(name):
    source = inspect.getsource(getattr(loftq_utils, name))
    scope = dict(vars(loftq_utils), is_bnb_available=lambda: True)
    exec(source.replace('"xpu" if is_xpu_available() else "cuda"', '"cpu"'), scope)
    return scope[name]


def main():
    bnb.functional.dequantize_4bit = dequantize
    weights = load_file("base_llama/model.safetensors")
    out = {"rank": RANK, "left": {}, "product": {}}
    for name in NAMES:
        w = weights[name + ".weight"].float()
        q = bnb.nn.Params4bit(w.clone(), requires_grad=False, compress_statistics=False,
                              quant_type="nf4", blocksize=64).to("cpu")
        a, b = on_cpu("_loftq_init_new")(q, w, 4, RANK)
        out["product"][name] = (b @ a).reshape(-1).tolist()
        plain = bnb.functional.dequantize_4bit(q.data, q.quant_state)
        left = [float((w - plain).norm())]
        for rounds in (1, 5):
            q2, a, b = on_cpu("loftq_init")(w, 4, RANK, rounds)
            left.append(float((w - q2 - b @ a).norm()))
        out["left"][name] = left
    with open("loftq.json", "w") as file:
        json.dump(out, file)
    print(out["left"])


main()
