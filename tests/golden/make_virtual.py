#!/usr/bin/env python3
"""Golden references for virtual tokens: PEFT's adapters of the tiny models, with random values.

Usage:  python make_virtual.py TINY HEADS PEFT OUTDIR   (tests/golden/tiny, .../heads, .../peft)
Reference stack: torch (CPU, f32), transformers, peft.
Each case is a folder with the adapter, and expect.json: the base's folder, ids (source of an
encoder-decoder model, then the target's), logits of the last token, or of all where the head is for
tokens; what the likeliest tokens one after the other are (by forward alone), and where generate says
the same, what it says with three beams.  Traces are as make_trace.py's; the
encoders of tokens, which adapters do not hold, are in init/encoder.safetensors.
"""
import json, os, shutil, sys, warnings
os.environ.setdefault("OMP_NUM_THREADS", "1"); os.environ.setdefault("HF_HUB_OFFLINE", "1")
warnings.filterwarnings("ignore")
import torch, torch.nn.functional as F
from safetensors.torch import save_file
from transformers import *
from peft import *
torch.set_num_threads(1); logging.set_verbosity_error()
TINY, HEADS, PEFT, OUT = sys.argv[1:5]
N = 3
LM, S2S, CLS, TOK = AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoModelForSequenceClassification, AutoModelForTokenClassification
KIND = {"prompt": PromptTuningConfig, "ptuning": PromptEncoderConfig, "prefix": PrefixTuningConfig}
CASES = [("prompt", "gpt2", LM, {}), ("prefix", "gpt2", LM, {}), ("prompt", "gemma2", LM, {}),
         ("prefix", "gemma2", LM, {}), ("prefix", "bloom", LM, {}), ("prompt", "bloom", LM, {}),
         ("prefix", "qwen3", LM, {}), ("ptuning", "opt", LM, {"encoder_hidden_size": 8}),
         ("prefix", "llama", LM, {"prefix_projection": True, "encoder_hidden_size": 8}),
         ("prefix", "falcon", LM, {"token_dim": 8, "num_attention_heads": 1}),
         ("prompt", "bert", CLS, {}), ("prefix", "bert", CLS, {}), ("prompt", "llama_cls", CLS, {}),
         ("prefix", "llama_cls", CLS, {}),
         ("prompt", "bert_tokens", TOK, {}), ("prefix", "bert_tokens", TOK, {}),
         ("prompt", "t5", S2S, {}), ("ptuning", "t5", S2S, {"num_transformer_submodules": 1}),
         ("prefix", "t5", S2S, {"token_dim": 36, "num_attention_heads": 3, "num_layers": 2})]
TASK = {LM: "CAUSAL_LM", S2S: "SEQ_2_SEQ_LM", CLS: "SEQ_CLS", TOK: "TOKEN_CLS"}


def base_of(name): return os.path.join(HEADS if name == "bert_tokens" else TINY, name)


def stir(m):
    torch.manual_seed(1)
    for n, p in m.named_parameters():
        if p.requires_grad and "prompt_encoder" in n: p.data = torch.randn_like(p) * (0.3 if p.dim() == 1 or "weight" in n else 1)
    return m.eval()


def greedy(m, ids, mask, cls, model):
    eos, said = model.generation_config.eos_token_id, []
    x = torch.tensor([[model.config.decoder_start_token_id]]) if cls is S2S else ids
    while len(said) < 10:
        z = m(input_ids=ids, attention_mask=mask, decoder_input_ids=x) if cls is S2S else m(input_ids=x, attention_mask=torch.ones_like(x))
        said.append(int(z.logits[0, -1].argmax()))
        if said[-1] in (eos if isinstance(eos, list) else [eos]): return said[:-1]
        x = torch.cat([x, torch.tensor([[said[-1]]])], 1)
    return said


def make(kind, base, cls, more):
    torch.manual_seed(0)
    model = cls.from_pretrained(base_of(base), attn_implementation="eager").eval()
    m = stir(get_peft_model(model, KIND[kind](num_virtual_tokens=N, task_type=TASK[cls], **more)))
    name = f"{kind}_{base}" + ("_projection" if more.get("prefix_projection") else "")
    d = os.path.join(OUT, name); shutil.rmtree(d, ignore_errors=True); m.save_pretrained(d)
    os.remove(d + "/README.md")
    top = min(model.config.vocab_size, 30)
    g = torch.Generator().manual_seed(5)
    ids, target = torch.randint(3, top, (1, 7), generator=g), torch.randint(3, top, (1, 4), generator=g)
    out = {"base": base, "ids": ids[0].tolist()}
    mask = torch.ones_like(ids)
    with torch.no_grad():
        if cls is S2S:
            out["target"] = target[0].tolist()
            z = m(input_ids=ids, attention_mask=mask, decoder_input_ids=target).logits[:, -1]
        else:
            z = m(input_ids=ids, attention_mask=mask).logits
            if cls is LM: z = z[:, -1]
            if cls is TOK: z = z[:, -ids.shape[1]:]
        out["logits"] = [round(float(x), 7) for x in z.reshape(-1)]
        if cls in (LM, S2S):
            out["greedy"] = greedy(m, ids, mask, cls, model)
            for k, o in (("generate", {}), ("beams", {"num_beams": 3})):
                try:
                    r = m.generate(input_ids=ids, attention_mask=mask, max_new_tokens=10, do_sample=False, use_cache=True, **o)[0].tolist()
                except Exception as e:
                    print("  no", k, type(e).__name__, str(e)[:90]); continue
                r = r[1:] if cls is S2S else r[ids.shape[1]:] if r[:ids.shape[1]] == out["ids"] else r
                eos = model.generation_config.eos_token_id
                eos = eos if isinstance(eos, list) else [eos]
                r = r[:-1] if r and r[-1] in eos else r
                if k == "beams": out[k] = r
                elif r != out["greedy"]: print("  generate differs", r, out["greedy"]); break
    json.dump(out, open(d + "/expect.json", "w"))
    print(name, [round(x, 4) for x in out["logits"][:3]], out.get("greedy"), out.get("beams"))


def trace(name, config):
    rows = json.load(open(PEFT + "/trace_lora/trace.json"))["rows"]
    torch.manual_seed(0); m = stir(get_peft_model(LlamaForCausalLM.from_pretrained(PEFT + "/base_llama"), config))
    d = f"{OUT}/trace_{name}"; shutil.rmtree(d, ignore_errors=True); m.save_pretrained(d + "/init"); os.remove(d + "/init/README.md")
    own = {k.split("default.")[1].replace("embedding.weight", "prompt_embeddings"): v for k, v in m.named_parameters() if v.requires_grad}
    lstm = [own.pop(k) for k in list(own) if k.startswith("lstm_head")]    # in the order of torch's flat weights
    if lstm: own["lstm_head"] = torch.nn.Parameter(torch.cat([v.detach().reshape(-1) for v in lstm]))
    if len(own) > 1: save_file({k: v.detach().clone() for k, v in own.items()}, d + "/init/encoder.safetensors")
    ps = [v for v in m.parameters() if v.requires_grad]; o = torch.optim.AdamW(ps, lr=1e-2, weight_decay=.01); losses, norms = [], []
    for s in range(10):
        rs = [rows[(4 * s + j) % 8] for j in range(4)]; t = max(len(r["input_ids"]) for r in rs)
        x = torch.zeros(4, t, dtype=torch.long); y = torch.full((4, t), -100); a = torch.zeros(4, t, dtype=torch.long)
        for i, r in enumerate(rs):
            n = len(r["input_ids"]); x[i, :n] = torch.tensor(r["input_ids"]); y[i, :n] = torch.tensor(r["labels"]); a[i, :n] = 1
        z = m(input_ids=x, attention_mask=a).logits[:, -t:]
        loss = F.cross_entropy(z[:, :-1].reshape(-1, 64), y[:, 1:].reshape(-1), ignore_index=-100)
        loss.backward(); norms.append(float(torch.nn.utils.clip_grad_norm_(ps, 1.0))); o.step(); o.zero_grad(); losses.append(float(loss))
    json.dump({"rows": rows, "loss": losses, "grad_norm": norms}, open(d + "/trace.json", "w")); print(name, losses[0], losses[-1], norms[:3])


if __name__ == "__main__":
    for c in CASES: make(*c)
    lm = dict(num_virtual_tokens=5, task_type="CAUSAL_LM")
    trace("prompt", PromptTuningConfig(**lm))
    trace("ptuning", PromptEncoderConfig(encoder_hidden_size=12, **lm))
    trace("lstm", PromptEncoderConfig(encoder_hidden_size=6, encoder_reparameterization_type="LSTM", **lm))
    trace("prefix", PrefixTuningConfig(**lm))
    trace("projection", PrefixTuningConfig(prefix_projection=True, encoder_hidden_size=6, **lm))
