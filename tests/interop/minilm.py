#!/usr/bin/env python3
"""all-MiniLM-L6-v2 against golden values of transformers and PEFT: token ids,
embeddings, and a 2-class fine-tuning in full, of the head, and with LoRA.

    python tests/interop/minilm.py MODEL_FOLDER GOLDEN
"""
import tempfile

from common import *
import peft
from safetensors.numpy import load_file, save_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

LINEAR = ("query", "key", "value", "dense")


def start_folder(path, out):
    """The golden run's start: the encoder with classifier.weight by formula.
    The pooler is the file's own."""
    model = AutoModelForSequenceClassification.from_pretrained(
        path, num_labels=2, dtype=torch.float32, hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0, attn_implementation="eager")
    model.classifier.weight.data = torch.from_numpy(formula("classifier.weight", (2, 384)))
    model.classifier.bias.data.zero_()
    model.save_pretrained(out)
    AutoTokenizer.from_pretrained(path).save_pretrained(out)
    return model


def class_logits(m, texts):
    return np.array([logits(m, m.tokenize(t)) for t in texts])


def torch_class_logits(model, tok, texts):
    model.eval()
    with torch.no_grad():
        return np.array([model(**tok(t, return_tensors="pt")).logits[0].numpy() for t in texts])


def run(name, gold, m, data, batch=8):
    got = our_train(m, data, gold["lr"], gold["steps"], batch)
    losses = got[0] + [m.evaluate(data).loss]
    check(name + " losses", worst(losses, gold["losses"]), 1e-4)
    check(name + " gradient norms", worst(got[1], gold["grad_norm_per_step"]), 1e-3)


def main():
    path, golden = sys.argv[1:3]
    gold = json.load(open(os.path.join(golden, "golden.json")))
    tensors = load_file(os.path.join(golden, "tensors.safetensors"))
    with libpeft.Model(path) as m:
        wrong = [s for s, ids in zip(gold["sentences"], gold["input_ids"]) if m.tokenize(s) != ids]
        check_true("ids of %d sentences" % len(gold["sentences"]), not wrong, repr(wrong[:2]))
        lines = [json.loads(s) for s in open(os.path.join(
            golden, "..", "..", "tokenizers", "minilm.jsonl"), encoding="utf-8")]
        wrong = [s["text"] for s in lines if m.tokenize(s["text"]) != s["ids"]]
        check_true("%d strings to ids" % len(lines), not wrong, repr(wrong[:3]))
        wrong = [s["ids"] for s in lines if m.detokenize(s["ids_plain"]) != s["decoded"]
                 or m.detokenize(s["ids"], skip_special=True) != s["decoded_skip"]]
        check_true("%d strings decoded" % len(lines), not wrong, repr(wrong[:3]))
        e = np.array([m.embed(ids) for ids in gold["input_ids"]])
        raw = np.array([m.embed(ids, normalize=False) for ids in gold["input_ids"]])
        check("embeddings", max_diff(e, tensors["embeddings"]), 1e-5)
        check("embeddings, not normalised", max_diff(raw, tensors["mean_pooled"]), 1e-5)
        check("cosines", max_diff(e @ e.T, gold["cosine"]), 1e-5)

    with tempfile.TemporaryDirectory() as work:
        start = os.path.join(work, "start")
        hf = start_folder(path, start)
        tok = AutoTokenizer.from_pretrained(start)
        texts, labels = gold["cls_texts"], gold["cls_labels"]
        data = os.path.join(work, "reviews.jsonl")
        with open(data, "w") as out:
            for t, y in zip(texts, labels):
                out.write(json.dumps(dict(text=t, label=y)) + "\n")
        with libpeft.Model(start) as m:
            check("class logits", max_diff(class_logits(m, texts), tensors["cls_logits"]), 1e-5)
            rows = m.dataset(data)
            m.unfreeze("*")
            names = list(gold["grad_norms"])
            step, grads = our_gradients(m, rows, 8, names)
            check("loss", abs(step.loss - gold["cls_loss"]), 1e-5)
            whole = math.sqrt(sum(v * v for v in gold["grad_norms"].values()))
            errors = {n: abs(np.linalg.norm(grads[n]) - v) / max(v, 1e-5 * whole)
                      for n, v in gold["grad_norms"].items()}
            at = max(errors, key=errors.get)
            check("gradient norms of %d tensors (worst %s)" % (len(errors), at), errors[at], 1e-3)
        with libpeft.Model(start) as m:
            m.unfreeze("*")
            run("full", gold["full"], m, m.dataset(data))
            out = os.path.join(work, "full")
            m.save(out)
            back = AutoModelForSequenceClassification.from_pretrained(out, dtype=torch.float32)
            check("full, our folder in transformers", max_diff(
                class_logits(m, texts), torch_class_logits(back, tok, texts)), 1e-5)
            check_true("label names", list(back.config.id2label.values()) == m.labels,
                       "%s %s" % (back.config.id2label, m.labels))
            wrong = [t for t in gold["sentences"] if AutoTokenizer.from_pretrained(out)(t)
                     ["input_ids"] != m.tokenize(t)]
            check_true("AutoTokenizer of our folder", not wrong, repr(wrong[:2]))
        for cache in (0, -1):
            with libpeft.Model(start) as m:
                m.freeze("*")
                m.unfreeze("classifier.*")
                got = our_train(m, m.dataset(data), 1e-2, 10, 8, feature_cache=cache)
                check("head losses, %s feature cache" % ("with" if cache == 0 else "without"),
                      worst(got[0], gold["head"]["losses"][:10]), 1e-4)
                check("head gradient norms", worst(got[1], gold["head"]["grad_norm_per_step"]),
                      1e-3)
        adapter = os.path.join(work, "adapter")
        os.makedirs(adapter)
        model = peft.get_peft_model(hf, peft.LoraConfig(
            r=8, lora_alpha=16, task_type="SEQ_CLS", modules_to_save=["classifier"],
            target_modules=r".*encoder\.layer\.\d+\..*(query|key|value|dense)"))
        formula_lora(model)
        model.save_pretrained(adapter, save_embedding_layers=False)
        with libpeft.Model(start) as m:
            m.load_adapter(adapter)
            g = gold["lora_all_r8"]
            check_true("LoRA trainable", m.info.trainable == g["trainable"],
                       "%d %d" % (m.info.trainable, g["trainable"]))
            run("LoRA", g, m, m.dataset(data))
            m.save_adapter(adapter + ".out")
            base = AutoModelForSequenceClassification.from_pretrained(start, dtype=torch.float32)
            back = peft.PeftModel.from_pretrained(base, adapter + ".out")
            check("LoRA, our adapter in PEFT", max_diff(
                class_logits(m, texts), torch_class_logits(back, tok, texts)), 1e-5)

        # A head of our own on the bare encoder, named labels, LoRA beside it.
        named = os.path.join(work, "named.jsonl")
        with open(named, "w") as out:
            for t, y in zip(texts, labels):
                out.write(json.dumps(dict(text=t, label=("bad", "good")[y])) + "\n")
        for pool in (None, "mean"):
            tag = "new head (%s)" % (pool or "default pool")
            with libpeft.Model(path) as m:
                m.add_head(["bad", "good"], **(dict(pool=pool) if pool else {}))
                m.add_adapter(rank=4)
                got = our_train(m, m.dataset(named), 2e-3, 8, 8)
                check_true(tag + " learns", got[0][-1] < got[0][0], "%.3f %.3f" %
                           (got[0][0], got[0][-1]))
                folder, out = os.path.join(work, "head"), os.path.join(work, "head.adapter")
                m.save_adapter(out)
                m.save(folder)
                want = class_logits(m, texts)
                config = json.load(open(folder + "/config.json"))
                print("    ", config["architectures"], config.get("id2label"))
                with libpeft.Model(path) as n:
                    n.load_adapter(out)
                    check(tag + ": its adapter on the bare encoder in libpeft",
                          max_diff(want, class_logits(n, texts)), 1e-5)
                    check_true(tag + ": labels come back", n.labels == ["bad", "good"],
                               str(n.labels))
                if pool is None:
                    base = AutoModelForSequenceClassification.from_pretrained(
                        path, num_labels=2, dtype=torch.float32)
                    back = peft.PeftModel.from_pretrained(base, out)
                    check(tag + ": its adapter in PEFT SEQ_CLS", max_diff(
                        want, torch_class_logits(back, tok, texts)), 1e-5)
                m.merge()
                m.save(folder)
                back = AutoModelForSequenceClassification.from_pretrained(folder,
                                                                          dtype=torch.float32)
                gap = max_diff(want, torch_class_logits(back, tok, texts))
                if pool is None:
                    check(tag + ": merged folder in transformers", gap, 1e-5)
                else:
                    print("     %s: transformers differs by %.3g" % (tag, gap))
                with libpeft.Model(folder) as n:
                    check(tag + ": merged folder in libpeft",
                          max_diff(want, class_logits(n, texts)), 1e-5)
    finish()


main()
