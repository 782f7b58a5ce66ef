#!/usr/bin/env python3
"""Golden references of rope scalings: tiny models of few weights under many config.json.

Usage:  python make_rope.py OUTDIR     (torch, transformers; see make_tiny.py)
OUTDIR gets WEIGHTS.safetensors (which several cases share), inputs.safetensors,
outputs.safetensors and cases.json: {name: {weights, config, losses, grad_norms}}.  Batch a is
shorter than the original length, c longer; both train in turn, b1 and b2 are forward only.
"""
import sys, copy, json, os, shutil, tempfile
from make_tiny import *

base = dict(vocab_size=48, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
            intermediate_size=16, pad_token_id=0, bos_token_id=1, eos_token_id=2)
old = lambda **k: dict(rope_theta=10000.0, rope_scaling=k)
new = lambda **k: dict(rope_parameters=dict(rope_theta=10000.0, **k))
short = [1.0, 1.02, 1.05, 1.1, 1.3, 1.5, 1.7, 2.0]; longer = [1.0, 1.1, 1.4, 2.0, 3.5, 4.0, 5.0, 6.5]
L3 = dict(factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=32)
CASES = {
 "llama_linear": ("llama", dict(max_position_embeddings=128), old(type="linear", factor=4.0)),
 "llama_dynamic": ("llama", dict(max_position_embeddings=32), new(rope_type="dynamic", factor=4.0)),
 "llama_llama3": ("llama", dict(max_position_embeddings=128), new(rope_type="llama3", **L3)),
 "llama_yarn": ("llama", dict(max_position_embeddings=128), new(rope_type="yarn", factor=4.0, original_max_position_embeddings=32)),
 "llama_yarn_set": ("llama", dict(max_position_embeddings=128), new(rope_type="yarn", factor=4.0, original_max_position_embeddings=32, beta_fast=16.0, beta_slow=2.0, attention_factor=0.9)),
 "llama_yarn_exact": ("llama", dict(max_position_embeddings=128), new(rope_type="yarn", factor=4.0, original_max_position_embeddings=32, beta_fast=4, beta_slow=0.5, mscale=1.2, mscale_all_dim=0.6, truncate=False)),
 "llama_longrope": ("llama", dict(max_position_embeddings=128), new(rope_type="longrope", original_max_position_embeddings=32, short_factor=short, long_factor=longer)),
 "qwen2_linear": ("qwen2", dict(max_position_embeddings=32), new(rope_type="linear", factor=4.0)),
 "qwen2_dynamic": ("qwen2", dict(max_position_embeddings=32), old(type="dynamic", factor=3.0)),
 "qwen2_yarn": ("qwen2", dict(max_position_embeddings=32), old(type="yarn", factor=4.0, original_max_position_embeddings=32)),
 "qwen2_llama3": ("qwen2", dict(max_position_embeddings=128), new(rope_type="llama3", **L3)),
 "qwen2_longrope": ("qwen2", dict(max_position_embeddings=128), old(rope_type="longrope", factor=5.0, original_max_position_embeddings=32, short_factor=short, long_factor=longer)),
 "mistral_yarn": ("mistral", dict(max_position_embeddings=128, sliding_window=8), new(rope_type="yarn", factor=4.0, original_max_position_embeddings=32)),
 "mistral_llama3": ("mistral", dict(max_position_embeddings=128, sliding_window=8), old(rope_type="llama3", **L3)),
 "mistral_dynamic": ("mistral", dict(max_position_embeddings=32, sliding_window=None), new(rope_type="dynamic", factor=2.0)),
 "mistral_longrope": ("mistral", dict(max_position_embeddings=128, sliding_window=24), new(rope_type="longrope", attention_factor=1.25, original_max_position_embeddings=32, short_factor=short, long_factor=longer)),
 "phi3_longrope": ("phi3", dict(max_position_embeddings=128, original_max_position_embeddings=32), new(rope_type="longrope", short_factor=short, long_factor=longer)),
 "phi3_su": ("phi3", dict(max_position_embeddings=128, original_max_position_embeddings=32), old(type="su", original_max_position_embeddings=32, short_factor=short, long_factor=longer)),
 "phi3_partial": ("phi3", dict(max_position_embeddings=128, original_max_position_embeddings=32, partial_rotary_factor=0.75), old(type="longrope", short_factor=short[:6], long_factor=longer[:6])),
}
if len(sys.argv) > 2:    # families whose heads turn in part: tried, not kept
    half = dict(base, num_key_value_heads=2, partial_rotary_factor=0.5)
    for k, (t, s) in dict(linear=("linear", dict(factor=4.0)), dynamic=("dynamic", dict(factor=4.0)), llama3=("llama3", L3),
                          yarn=("yarn", dict(factor=4.0, original_max_position_embeddings=32))).items():
        CASES["phi_" + k] = ("phi", dict(half, resid_pdrop=0.0, max_position_embeddings=32 if t == "dynamic" else 128), old(type=t, **s))
        CASES["gpt_neox_" + k] = ("gpt_neox", dict(max_position_embeddings=32 if t == "dynamic" else 128, rotary_pct=0.5, hidden_dropout=0.0, attention_dropout=0.0), old(type=t, **s))

def pair(seed, n0, n1):
    x = rnd_ids(seed, 2, n0, hi=48); am = torch.ones_like(x); x[1, n1:] = 0; am[1, n1:] = 0
    y = x.clone(); y[am == 0] = -100; y[1, :3] = -100
    return dict(input_ids=x, attention_mask=am, labels=y)

out = sys.argv[1]; os.makedirs(out, exist_ok=True)
a, c = pair(101, 20, 14), pair(202, 90, 50)
b1, b2 = rnd_ids(303, 1, 24, hi=48), rnd_ids(304, 1, 96, hi=48)
outp, cases, done = {}, {}, set()
for name, (style, more, rope) in CASES.items():
    config = dict(base, model_type=style, tie_word_embeddings=False, **{**more, **rope}) if style != "phi" else dict(more, model_type=style, tie_word_embeddings=False, **rope)
    if style in ("llama", "mistral"): config["head_dim"] = 16
    cfg = CONFIG_MAPPING[style].from_dict(copy.deepcopy(config)); cfg._attn_implementation = "eager"
    make = lambda: AutoModelForCausalLM.from_config(copy.deepcopy(cfg), attn_implementation="eager").float()
    model = make(); model.config.use_cache = False; reinit(model)
    weights = dict(mistral="llama").get(style, style)
    if weights not in done:
        done.add(weights); d = tempfile.mkdtemp(); model.save_pretrained(d)
        shutil.copy(d + "/model.safetensors", f"{out}/{weights}.safetensors"); shutil.rmtree(d)
    def fresh():    # some scalings remember lengths they have seen
        m = make(); m.load_state_dict(model.state_dict()); m.config.use_cache = False; return m
    with torch.no_grad():
        outp[name + ".b1"] = fresh()(input_ids=b1).logits[0, -8:]
        outp[name + ".b2"] = fresh()(input_ids=b2).logits[0, -16:]
    m = fresh().train(); m(**c).loss.backward()
    g = hubnames(m, {n: p.grad for n, p in m.named_parameters()})
    k = [n for n in sorted(g) if "k_proj.weight" in n or "qkv" in n or "query_key_value.weight" in n][0]
    outp[name + ".grad"] = g[k]
    losses, gn = run(fresh(), [a, c], 1e-3, torch.float32, lambda n, p: True)
    l64, _ = run(fresh(), [a, c], 1e-3, torch.float64, lambda n, p: True)
    cases[name] = dict(weights=weights, config=config, grad=k, losses=losses, grad_norms={n: l2(t) for n, t in sorted(g.items())})
    print(name, losses[0], losses[-1], rel(losses, l64), flush=True)
inp = {f"{n}.{k}": v for n, b in (("a", a), ("c", c)) for k, v in b.items()}
save_file({k: v.contiguous() for k, v in {**inp, "b1.input_ids": b1, "b2.input_ids": b2}.items()}, out + "/inputs.safetensors")
save_file({k: v.detach().float().contiguous().clone() for k, v in outp.items()}, out + "/outputs.safetensors")
json.dump(cases, open(out + "/cases.json", "w"), indent=0, sort_keys=True)
