#!/usr/bin/env python3
"""Golden references of LoRA on experts that are one parameter (PEFT's target_parameters).

Usage:  python make_moe.py OUTDIR     (torch, transformers, peft; see make_tiny.py)
Bases are tiny/mixtral and tiny/qwen3_moe.  OUTDIR/CASE gets step0/, an adapter whose B is not
zero, and outputs.safetensors: a.logits0, a.logits10 (row 0, the last 6 tokens); OUTDIR/cases.json: {case: {base, losses,
grad_norms}}.  `train_router`: the router's weights train beside, outside of the adapter.
"""
import sys, copy, json, os, shutil
here = os.path.dirname(os.path.abspath(__file__))
from make_tiny import *
from peft import PeftModel
BOTH = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]
OLD = dict(mixtral=["w1", "w2", "w3"], qwen3_moe=["experts.gate_proj", "experts.up_proj"])
CASES = {}
for f in ("mixtral", "qwen3_moe"):
    CASES[f + "_both"] = (f, dict(target_modules=["q_proj"], target_parameters=BOTH), False)
    CASES[f + "_router"] = (f, dict(target_modules=[], target_parameters=BOTH, modules_to_save=["mlp.gate"]), False)
    CASES[f + "_train_router"] = (f, dict(target_modules=["v_proj"], target_parameters=BOTH[:1]), True)
CASES["mixtral_down"] = ("mixtral", dict(target_modules=["o_proj"], target_parameters=BOTH[1:]), False)
CASES["qwen3_moe_ranks"] = ("qwen3_moe", dict(target_modules=["q_proj"], target_parameters=BOTH, use_rslora=True,
                            rank_pattern={"model.layers.1.mlp.experts.gate_up_proj": 3, r".*\.down_proj": 1}, alpha_pattern={"q_proj": 5}), False)
out = sys.argv[1]; cases = {}
for name, (fam, lora, router) in CASES.items():
    d = f"{out}/{name}"; shutil.rmtree(d, ignore_errors=True); os.makedirs(d)
    model = AutoModelForCausalLM.from_pretrained(f"{here}/tiny/{fam}", attn_implementation="eager", experts_implementation="eager").float()
    model.config.use_cache = False
    a, c = batch("clm", 101, model.config), batch("clm", 202, model.config)
    torch.manual_seed(1234)
    pm = get_peft_model(model, LoraConfig(r=2, lora_alpha=4, task_type="CAUSAL_LM", **lora)).float()
    for n, p in pm.named_parameters():
        g = torch.Generator().manual_seed(zlib.crc32(n.encode()))
        if "lora_B" in n: p.data.copy_(torch.randn(p.shape, generator=g) * 0.1)
        if "modules_to_save" in n: p.data.add_(torch.randn(p.shape, generator=g) * 0.05)
    pm.save_pretrained(d + "/step0", save_embedding_layers=False)
    if os.path.exists(d + "/step0/README.md"): os.remove(d + "/step0/README.md")
    ac = json.load(open(d + "/step0/adapter_config.json")); ac["base_model_name_or_path"] = fam
    for k in ("target_modules", "target_parameters", "modules_to_save"):
        if ac.get(k): ac[k] = sorted(ac[k])
    json.dump(ac, open(d + "/step0/adapter_config.json", "w"), indent=1, sort_keys=True)
    o = {}
    with torch.no_grad(): o["a.logits0"] = copy.deepcopy(pm).eval()(**a).logits[0, -6:]
    tr = {n for n, p in pm.named_parameters() if p.requires_grad or (router and "mlp.gate.weight" in n)}
    losses, gn = run(pm, [a, c], 2e-3, torch.float32, lambda n, p: n in tr)
    with torch.no_grad(): o["a.logits10"] = pm.eval()(**a).logits[0, -6:]
    save_file({k: v.contiguous() for k, v in o.items()}, d + "/outputs.safetensors")
    cases[name] = dict(base=fam, train_router=router, losses=losses, grad_norms=gn)
    print(name, losses[0], losses[-1])
json.dump(cases, open(out + "/cases.json", "w"), indent=0, sort_keys=True)
