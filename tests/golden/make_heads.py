#!/usr/bin/env python3
"""Golden references for heads: tiny random-weight models, as make_tiny.py's.

Usage:  python make_heads.py OUTDIR [name ...]
Reference stack: torch (CPU, f32, eager attention, no dropout), transformers, peft.
For each head a folder: config.json and model.safetensors (save_pretrained), lora_step0 (PEFT),
data.jsonl (batches a and c of two rows, as input_ids), golden.json: outputs of batch a, the loss,
gradient norms, and the losses of ten AdamW steps (a, c, a, c, ...) of full, LoRA and head-only
tuning.
"""
import copy, json, os, shutil, sys, warnings
os.environ.setdefault("OMP_NUM_THREADS", "1"); os.environ.setdefault("HF_HUB_OFFLINE", "1")
warnings.filterwarnings("ignore")
import torch, torch.nn.functional as F
from transformers import *
from peft import LoraConfig, get_peft_model
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from make_tiny import reinit, rnd_ids, rel, l2, OPT, LR
torch.set_num_threads(1); torch.use_deterministic_algorithms(True)

V, STEPS = 32, 10
base = dict(vocab_size=V, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
            max_position_embeddings=16, pad_token_id=0, bos_token_id=1, eos_token_id=2)
bert = dict(base, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
llama = dict(base, num_key_value_heads=1)
QV, LL = ["query", "value"], ["q_proj", "v_proj"]
HEADS = {
    "bert_multi": (BertForSequenceClassification, BertConfig(**bert, num_labels=4, problem_type="multi_label_classification"), "multi", QV, ["classifier"], "SEQ_CLS"),
    "bert_regression": (BertForSequenceClassification, BertConfig(**bert, num_labels=1, problem_type="regression"), "regression", QV, ["classifier"], "SEQ_CLS"),
    "bert_tokens": (BertForTokenClassification, BertConfig(**bert, id2label={0: "O", 1: "B-X", 2: "I-X"}, label2id={"O": 0, "B-X": 1, "I-X": 2}), "tokens", QV, ["classifier"], "TOKEN_CLS"),
    "bert_qa": (BertForQuestionAnswering, BertConfig(**bert), "span", QV, ["qa_outputs"], "QUESTION_ANS"),
    "bert_mlm": (BertForMaskedLM, BertConfig(**bert), "mlm", QV, None, None),
    "llama_tokens": (LlamaForTokenClassification, LlamaConfig(**llama, num_labels=3, classifier_dropout=0.0), "tokens", LL, ["score"], "TOKEN_CLS"),
    "llama_qa": (LlamaForQuestionAnswering, LlamaConfig(**llama), "span", LL, ["qa_outputs"], "QUESTION_ANS"),
    "llama_reward": (LlamaForSequenceClassification, LlamaConfig(**llama, num_labels=1), "reward", LL, ["score"], "SEQ_CLS"),
}
LENGTHS = [12, 9]

def batch(kind, seed, cfg):
    """Two rows padded at the right; for rewards four: the better ones, then the worse."""
    n = LENGTHS * (2 if kind == "reward" else 1)
    if kind == "span": n = [12, 12]     # transformers takes the softmax over the padding too
    x = rnd_ids(seed, len(n), max(n), hi=V)
    mask = torch.zeros_like(x)
    for i, k in enumerate(n): mask[i, :k] = 1; x[i, k:] = 0
    g = torch.Generator().manual_seed(seed + 5)
    b = dict(input_ids=x, attention_mask=mask)
    if kind == "multi": b["labels"] = (torch.rand(2, cfg.num_labels, generator=g) < 0.5).float()
    if kind == "regression": b["labels"] = (torch.randn(2, generator=g) * 100).round() / 100
    if kind in ("tokens", "mlm"):
        y = torch.randint(0, cfg.num_labels, x.shape, generator=g) if kind == "tokens" else x.clone()
        sel = torch.rand(x.shape, generator=g) < 0.6
        sel[:, 1] = True
        y[~sel | (mask == 0)] = -100
        if kind == "mlm": b["input_ids"] = torch.where(sel & (mask == 1), torch.full_like(x, 4), x)
        b["labels"] = y
    if kind == "span": b["start_positions"], b["end_positions"] = torch.tensor([3, 0]), torch.tensor([5, 0])
    return b

def outputs(r): return torch.stack([r.start_logits, r.end_logits], -1) if "start_logits" in r else r.logits

def loss_of(m, kind, b, dt=torch.float32):
    b = {k: v.to(dt) if v.is_floating_point() else v for k, v in b.items()}
    r = m(**b)
    if kind != "reward": return r.loss
    z = r.logits[:, 0]
    return -F.logsigmoid(z[:2] - z[2:]).mean()

def run(model, kind, batches, lr, trains, dt=torch.float32):
    m = model.to(dt).train()
    ps = [p for n, p in m.named_parameters() if p.requires_grad_(trains(n, p)).requires_grad]
    o = torch.optim.AdamW(ps, lr=lr, foreach=False, fused=False, **OPT)
    losses = []
    for i in range(STEPS):
        o.zero_grad(set_to_none=True)
        loss = loss_of(m, kind, batches[i % 2], dt); loss.backward(); losses.append(float(loss.detach())); o.step()
    return losses

def rows(kind, b):
    """The batch as rows of a data file."""
    ids = [[int(t) for t, k in zip(x, m) if k] for x, m in zip(b["input_ids"], b["attention_mask"])]
    for i in range(2):
        if kind == "reward": yield dict(chosen_input_ids=ids[i], rejected_input_ids=ids[2 + i]); continue
        r = dict(input_ids=ids[i])
        if kind == "span": r.update(start_positions=int(b["start_positions"][i]), end_positions=int(b["end_positions"][i]))
        elif kind == "regression": r["label"] = round(float(b["labels"][i]), 2)
        else: r["labels"] = b["labels"][i].tolist() if kind == "multi" else b["labels"][i][:len(ids[i])].tolist()
        yield r

def make(name, out):
    cls, cfg, kind, targets, heads, task = HEADS[name]
    torch.manual_seed(0)
    model = cls._from_config(copy.deepcopy(cfg), attn_implementation="eager").float()
    model.config.use_cache = False
    reinit(model); model.tie_weights()
    d = os.path.join(out, name); shutil.rmtree(d, ignore_errors=True); os.makedirs(d)
    model.save_pretrained(d)
    a, c = batch(kind, 101, cfg), batch(kind, 202, cfg)
    with open(d + "/data.jsonl", "w") as f:
        for b in (a, c):
            for r in rows(kind, b): f.write(json.dumps(r) + "\n")
    m = copy.deepcopy(model).train()
    loss = loss_of(m, kind, a); loss.backward()
    z = outputs(m(**{k: v for k, v in a.items() if k in ("input_ids", "attention_mask")})).detach()
    keep = [z[i] if z.dim() == 2 else z[i, :int(n)].reshape(-1) for i, n in enumerate(a["attention_mask"].sum(1))]
    gold = dict(kind=kind, loss=float(loss), logits=[[round(float(v), 7) for v in x.reshape(-1)] for x in keep],
                grad_norms={n: float("%.7g" % l2(p.grad)) for n, p in m.named_parameters() if p.grad is not None})
    gold["full"] = dict(lr=LR["full"], losses=run(copy.deepcopy(model), kind, [a, c], LR["full"], lambda n, p: True))
    l64 = run(copy.deepcopy(model), kind, [a, c], LR["full"], lambda n, p: True, torch.float64)
    gold["full"]["max_rel_f32_f64"] = rel(gold["full"]["losses"], l64)
    torch.manual_seed(1234)
    pm = get_peft_model(copy.deepcopy(model), LoraConfig(r=2, lora_alpha=4, lora_dropout=0.0, target_modules=targets, task_type=task, modules_to_save=heads if task is None else None))
    pm.save_pretrained(d + "/lora_step0")
    readme = d + "/lora_step0/README.md"
    if os.path.exists(readme): os.remove(readme)
    gold["lora"] = dict(lr=LR["lora"], losses=run(pm, kind, [a, c], LR["lora"], lambda n, p: p.requires_grad))
    if heads:
        gold["head"] = dict(lr=LR["head"], modules=heads, losses=run(copy.deepcopy(model), kind, [a, c], LR["head"], lambda n, p: n.split(".")[0] in heads))
    json.dump(gold, open(d + "/golden.json", "w"), separators=(",", ":"))
    print(name, gold["loss"], gold["full"]["max_rel_f32_f64"])

if __name__ == "__main__":
    for name in sys.argv[2:] or HEADS: make(name, sys.argv[1])
