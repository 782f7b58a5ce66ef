#!/usr/bin/env python3
"""Heads of many families between libpeft and transformers, both ways, and what the calls for texts
say against the pipelines and sentence-transformers.  Random weights; the tokenizer is MiniLM's.

Usage:  python tests/interop/heads.py
"""
import os, sys, tempfile, warnings
os.environ["HF_HUB_OFFLINE"] = "1"
warnings.filterwarnings("ignore")
ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
sys.path[:0] = [os.path.join(ROOT, "bindings", "python"), os.path.join(ROOT, "tests", "golden")]
import numpy as np, torch, transformers
from transformers import *
import libpeft
from make_tiny import families, reinit
transformers.logging.set_verbosity_error()

AUTO = {"classification": AutoModelForSequenceClassification, "multi-label": AutoModelForSequenceClassification,
        "regression": AutoModelForSequenceClassification, "reward": AutoModelForSequenceClassification,
        "tokens": AutoModelForTokenClassification, "question-answering": AutoModelForQuestionAnswering, "masked-lm": AutoModelForMaskedLM}
FAM = families(96, 32, 48)
worst, tried, failed = 0.0, 0, 0

def theirs(m, ids):
    with torch.no_grad(): r = m(torch.tensor([ids]))
    return (torch.stack([r.start_logits, r.end_logits], -1) if "start_logits" in r else r.logits)[0].numpy()

def check(what, a, b, tol=2e-5):
    global worst, tried, failed
    d = float(np.abs(np.asarray(a, np.float64) - np.asarray(b, np.float64)).max()) if np.shape(a) == np.shape(b) else 9e9
    worst, tried = max(worst, d), tried + 1
    if not d <= tol: failed += 1; print("WRONG %s: %g, shapes %s %s" % (what, d, np.shape(a), np.shape(b)))

def both_ways(name, kind):
    cfg = FAM[name][1].to_dict(); model_type = cfg["model_type"]
    labels = {"regression": 1, "reward": 1, "question-answering": 2}.get(kind, 3)
    cfg = AutoConfig.for_model(model_type, **{k: v for k, v in cfg.items() if k not in ("model_type", "architectures", "id2label", "label2id")})
    cfg.num_labels = labels
    if kind == "multi-label": cfg.problem_type = "multi_label_classification"
    try: m = AUTO[kind].from_config(cfg)
    except ValueError: return
    reinit(m); m.tie_weights(); m.eval()
    ids = [5, 9, 33, 60, 7, 12, 80, 4]
    with tempfile.TemporaryDirectory() as d:
        m.save_pretrained(d + "/hf")
        body = m.base_model; body.save_pretrained(d + "/body")
        with libpeft.Model(d + "/hf") as p:
            want = "regression" if kind == "reward" else kind
            if p.info.head != want: check("%s %s is read as %s" % (name, kind, p.info.head), 0, 1)
            check("%s %s read" % (name, kind), p.forward(ids), theirs(m, ids))
            p.save(d + "/ours")
        back = AUTO[kind].from_pretrained(d + "/ours").eval()
        check("%s %s written" % (name, kind), theirs(back, ids), theirs(m, ids))
        with libpeft.Model(d + "/body") as p:      # a new head on the bare body
            if kind == "masked-lm": p.add_head(kind=kind)
            else: p.add_head(labels, kind=kind)
            new = np.array(p.forward(ids)); p.save(d + "/new")
        back, info = AUTO[kind].from_pretrained(d + "/new", output_loading_info=True)
        check("%s %s new head, missing %s" % (name, kind, info["missing_keys"]), theirs(back.eval(), ids), new)
        if info["missing_keys"]: check("missing", 0, 1)

def answers(m, tok, question, context, n_best, none, most=15):
    """The question-answering pipeline of transformers 4 (it is gone from 5)."""
    enc = tok(question, context, truncation="only_second", max_length=96, stride=32, return_overflowing_tokens=True, return_offsets_mapping=True)
    found, null = {}, 1.0
    for k in range(len(enc["input_ids"])):
        with torch.no_grad(): r = m(input_ids=torch.tensor([enc["input_ids"][k]]), token_type_ids=torch.tensor([enc["token_type_ids"][k]]))
        ok = np.array([s == 1 for s in enc.sequence_ids(k)]); keep = ok.copy(); keep[0] = True
        a, b = (torch.softmax(torch.where(torch.tensor(keep), x[0], -10000.0), 0).numpy().astype(float) for x in (r.start_logits, r.end_logits))
        null = min(null, a[0] * b[0])
        for i in np.flatnonzero(ok):
            for j in range(i, min(i + most, len(ok))):
                if ok[j]:
                    key = (enc["offset_mapping"][k][i][0], enc["offset_mapping"][k][j][1])
                    found[key] = max(found.get(key, 0), a[i] * b[j])
    if none: found[(0, 0)] = null
    return [(*k, v) for k, v in sorted(found.items(), key=lambda x: -x[1])[:n_best]]

def texts():
    tok_dir = os.path.join(ROOT, "tests", "golden", "tokenizers", "minilm")
    vocab = {w.rstrip("\n"): i for i, w in enumerate(open(tok_dir + "/vocab.txt", encoding="utf-8"))}
    tok = BertTokenizer(vocab=vocab)
    base = dict(vocab_size=len(tok), hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48, max_position_embeddings=128)
    text = "Angela Merkel visited the headquarters of Siemens in München, and unbelievably liked it."
    names = {0: "O", 1: "B-PER", 2: "I-PER", 3: "B-ORG", 4: "I-ORG"}
    def model(cls, seed, **more):
        torch.manual_seed(seed); m = cls(BertConfig(**base, **more)); reinit(m); m.tie_weights(); return m.eval()
    with tempfile.TemporaryDirectory() as d:
        def save(m, name): m.save_pretrained(d + name); tok.save_pretrained(d + name); return libpeft.Model(d + name)
        m = model(BertForTokenClassification, 1, id2label=names, label2id={v: k for k, v in names.items()})
        p = save(m, "/tok")
        for how in ("none", "simple", "first", "average", "max"):
            a = pipeline("token-classification", model=m, tokenizer=tok, aggregation_strategy=how)(text)
            b = p.tag(text, aggregate=how)
            key = "entity" if how == "none" else "entity_group"
            check("tags %s %s %s" % (how, [(x[key], x["start"], x["end"]) for x in a], [(x.label, x.begin, x.end) for x in b]),
                  [(x["start"], x["end"], float(x["score"])) for x in a], [(x.begin, x.end, x.score) for x in b])
            if [x[key] for x in a] != [x.label for x in b]: check("labels " + how, 0, 1)
        m = model(BertForSequenceClassification, 2, num_labels=3)
        p = save(m, "/cls")
        a = pipeline("text-classification", model=m, tokenizer=tok, top_k=None)([text, "Short."])
        for x, y in zip(a, p.classify([text, "Short."])):
            for s in x: check("classify", s["score"], y[s["label"]])
        with torch.no_grad(): z = m(**tok("One text.", "Another one, longer.", return_tensors="pt")).logits[0]
        check("pair", list(p.classify("One text.", pairs="Another one, longer.", raw=1).values()), z)
        m = model(BertForQuestionAnswering, 3)
        p = save(m, "/qa")
        context = " ".join("In %d the town of Falkenberg number %d had %d inhabitants." % (1800 + i, i, 17 * i) for i in range(12))
        q = "How many lived there?"
        for n_best in (1, 4):
            for none in (False, True):
                a = answers(m, tok, q, context, n_best, none)
                b = p.answer(q, context, n_best=n_best, max_len=96, stride=32, no_answer=int(none))
                check("answers %s %s" % (a, [(x.begin, x.end, x.score) for x in b]), a, [(x.begin, x.end, x.score) for x in b], 1e-4)
        m = model(BertForMaskedLM, 4)
        p = save(m, "/mlm")
        a = pipeline("fill-mask", model=m, tokenizer=tok)("The [MASK] of France is Paris.", top_k=4)
        check("fill", [x["score"] for x in a], [s for _, s in p.fill_mask("The [MASK] of France is Paris.", 4)[0]])
        import sentence_transformers as st
        from sentence_transformers import models as sm
        m = model(BertModel, 5); m.save_pretrained(d + "/body"); tok.save_pretrained(d + "/body")
        for mode in ("mean", "cls", "lasttoken", "weightedmean"):
            for norm in (False, True):
                parts = [sm.Transformer(d + "/body", max_seq_length=24), sm.Pooling(32, pooling_mode=mode)] + ([sm.Normalize()] if norm else [])
                s = st.SentenceTransformer(modules=parts, device="cpu"); s.save(d + "/st" + mode + str(norm))
                p = libpeft.Model(d + "/st" + mode + str(norm))
                check("embed %s %s" % (mode, norm), s.encode([text * 3, "Short."]), p.embed_text([text * 3, "Short."]))

for name in sys.argv[1:] or ["bert", "roberta", "xlm_roberta", "distilbert", "modernbert", "llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "phi", "phi3",
                             "olmo2", "starcoder2", "smollm3", "gpt2", "gpt_neox", "falcon", "opt", "bloom", "mixtral", "texts"]:
    if name == "texts": texts(); continue
    for kind in AUTO: both_ways(name, kind)
print("heads: %d compared, worst %.1e, %d wrong" % (tried, worst, failed))
sys.exit(failed > 0)
