#!/usr/bin/env python3
"""EVA by PEFT on the tiny Llama, with the rows of the traces as one batch: the adapter
after its start, rho 1 and 2, and its logits once B has values.

    cd tests/golden/peft && python ../make_eva.py
"""
import json
import os
import shutil

import torch
from peft import EvaConfig, LoraConfig, get_peft_model, initialize_lora_eva_weights
from transformers import LlamaForCausalLM

from make_adalora import batch


def main():
    with open("../traces/rows.jsonl") as file:
        rows = [json.loads(line) for line in file]
    for rho in (1, 2):
        out = "eva_%d" % rho
        torch.manual_seed(0)
        config = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM",
                            init_lora_weights="eva", eva_config=EvaConfig(rho=rho, tau=0.999))
        base = LlamaForCausalLM.from_pretrained("base_llama", dtype=torch.float32,
                                                attn_implementation="eager")
        m = get_peft_model(base, config)
        initialize_lora_eva_weights(m, [batch(rows)])
        shutil.rmtree(out, ignore_errors=True)
        m.save_pretrained(out)
        os.remove(out + "/README.md")
        print(out, m.peft_config["default"].rank_pattern)


main()
