#!/usr/bin/env python3
"""Makes bnb/qlora.safetensors and bnb/qlora.json from the project's full references.

Usage: python make_qlora.py REFERENCE_DIR   (its tiny/llama and extra/ are read)

REFERENCE_DIR/extra holds what bitsandbytes and torch say of tiny/llama: blocks of two of
its weights, and ten AdamW steps of LoRA (r 8, from lora_step0) on the model whose linear
layers went through NF4 (block 64, without double quantisation), in float32.  Random
weights: no licence but the project's."""
import json
import os
import sys

from safetensors.numpy import load_file, save_file

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "bnb")
EXTRA = os.path.join(sys.argv[1], "extra")

tensors = load_file(os.path.join(EXTRA, "quant.safetensors"))
keep = {k: v for k, v in tensors.items()
        if k.startswith(("q.", "down.")) and "dequant" not in k or k == "qlora.base_logits"}
save_file(keep, os.path.join(HERE, "qlora.safetensors"))
run = json.load(open(os.path.join(EXTRA, "golden.json")))["qlora_nf4"]
keys = ("lr", "losses", "grad_norm_before_clip")
json.dump({k: run[k] for k in keys}, open(os.path.join(HERE, "qlora.json"), "w"), indent=1)
