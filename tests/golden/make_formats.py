#!/usr/bin/env python3
"""Adapters as other programs write them, for tests/parity/test_formats.c.

Usage:  python make_formats.py OUTDIR CONVERTER

Run from the repository root, with mlx, mlx_lm, safetensors, numpy, and what llama.cpp's
convert_lora_to_gguf.py (CONVERTER, the path of one in a checkout) needs.  The base is
tests/golden/peft/base_llama.  In OUTDIR:
lora.gguf      tests/golden/peft/lora by the converter, whose logits PEFT gave
lora_f16.gguf  the same in float16
mlx_*          folders that MLX-LM writes: LoRA of the last layer, of embeddings and head,
               DoRA, and whole tensors; random values; expect.json has ids and MLX's logits
"""
import json, os, subprocess, sys
import mlx.core as mx
from mlx.utils import tree_flatten
from mlx_lm.tuner.utils import linear_to_lora_layers, load_adapters
from mlx_lm.utils import load_model
from pathlib import Path

BASE = "tests/golden/peft/base_llama"
IDS = [1, 5, 9, 13, 2, 7]
CASES = {
    "mlx_lora": ("lora", 1, {"rank": 4, "scale": 20.0, "dropout": 0.0}),
    "mlx_keys": ("lora", 2, {"rank": 2, "scale": 3.5, "dropout": 0.1, "keys": [
        "self_attn.q_proj", "mlp.down_proj", "model.embed_tokens", "lm_head"]}),
    "mlx_dora": ("dora", 2, {"rank": 2, "scale": 2.0, "dropout": 0.0, "keys": [
        "self_attn.q_proj", "self_attn.v_proj"]}),
    "mlx_full": ("full", 1, {"rank": 8, "scale": 20.0, "dropout": 0.0}),
}


def main():
    out, converter = sys.argv[1:3]
    os.makedirs(out, exist_ok=True)
    mx.set_default_device(mx.cpu)
    for name, (kind, layers, parameters) in CASES.items():
        folder = os.path.join(out, name)
        os.makedirs(folder, exist_ok=True)
        mx.random.seed(7)
        model, _ = load_model(Path(BASE))
        model.freeze()
        if kind == "full":
            model.layers[-1].self_attn.unfreeze()
            model.model.norm.unfreeze()
        else:
            linear_to_lora_layers(model, layers, parameters, use_dora=kind == "dora")
        tensors = {k: v + 0.1 * mx.random.normal(v.shape)
                   for k, v in tree_flatten(model.trainable_parameters())}
        mx.save_safetensors(os.path.join(folder, "adapters.safetensors"), tensors)
        with open(os.path.join(folder, "adapter_config.json"), "w") as f:
            json.dump({"fine_tune_type": kind, "lora_parameters": parameters, "model": BASE,
                       "num_layers": layers, "seed": 7}, f, indent=4)
        model, _ = load_model(Path(BASE))
        model = load_adapters(model, folder)
        model.eval()
        logits = model(mx.array([IDS]))[0, -1]
        with open(os.path.join(folder, "expect.json"), "w") as f:
            json.dump({"ids": IDS, "logits_last": logits.tolist()}, f)
    for name, kind in (("lora.gguf", "f32"), ("lora_f16.gguf", "f16")):
        subprocess.run([sys.executable, converter, "--base", BASE, "--outtype", kind, "--outfile",
                        os.path.join(out, name), "tests/golden/peft/lora"], check=True)


main()
