#!/usr/bin/env python3
"""SmolLM2-135M-Instruct from its GGUF against golden values that transformers
and PEFT made, and what we save of it back in transformers and PEFT.

    python tests/interop/smollm2.py MODEL.gguf GOLDEN [PART ...]

GOLDEN holds golden.json, tensors.safetensors and lora_step10/ for this model,
and beside the models' folders tokenizers/smollm2.jsonl, smollm2_chat.jsonl.
Parts: text train full exact folder adapter merge.
"""
import shutil
import subprocess
import tempfile

from common import *
import peft
from safetensors.numpy import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

# torch's float32 cross entropy over 49152 classes is 7e-6 below the same in
# float64 (part `exact`); ten AdamW steps make 1e-4 of it, 4e-4 where the loss
# has fallen to a hundredth.
LOSSES = 1e-3
# Two float32 runs of transformers itself (a row alone, and the same row in a
# batch of three) differ by 6e-5 here.
LOGITS = 4e-4
LINEAR = {"q_proj": "self_attn", "k_proj": "self_attn", "v_proj": "self_attn",
          "o_proj": "self_attn", "gate_proj": "mlp", "up_proj": "mlp", "down_proj": "mlp"}
PEFT = os.environ.get("PEFT_COMMAND", os.path.join(ROOT, "build", "release", "peft"))


def golden_adapter(folder, shapes, targets, rank, alpha):
    """PEFT's folder with the golden run's first values."""
    tensors = {}
    for name, (rows, cols) in shapes.items():
        module = name[:-len(".weight")]
        if module.split(".")[-1] not in targets:
            continue
        a = "base_model.model.%s.lora_A.weight" % module
        tensors[a] = formula(a, (rank, cols))
        tensors[a.replace("lora_A", "lora_B")] = np.zeros((rows, rank), np.float32)
    os.makedirs(folder)
    save_file(tensors, os.path.join(folder, "adapter_model.safetensors"))
    with open(os.path.join(folder, "adapter_config.json"), "w") as out:
        json.dump(dict(peft_type="LORA", task_type="CAUSAL_LM", r=rank, lora_alpha=alpha,
                       lora_dropout=0.0, bias="none", target_modules=list(targets)), out)


def greedy(model, ids, n):
    """By whole forward passes: no cache takes part."""
    ids = list(ids)
    for _ in range(n):
        ids.append(int(logits(model, ids)[-1].argmax()))
    return ids


def text_part(path, gold, tensors, golden, work):
    with libpeft.Model(path) as m:
        for i, p in enumerate(gold["prompts"]):
            name = "prompt %d " % i
            ids = m.tokenize(p["text"])
            check_true(name + "ids", ids == p["input_ids"])
            all_logits = logits(m, p["input_ids"])
            last = all_logits[-1]
            check(name + "top-20 logits", max_diff(last[p["top20_ids"]], p["top20_logits"]), 1e-4)
            check(name + "first 2048 logits",
                  max_diff(last[:2048], tensors["p%d.logits_first_2048" % i]), 1e-4)
            check(name + "log-sum-exp", abs(
                float(np.logaddexp.reduce(last.astype(np.float64))) - p["logsumexp"]), 1e-4)
            check_true(name + "argmax everywhere",
                       all_logits.argmax(-1).tolist() == p["argmax_all"])
            new = len(p["greedy_ids"]) - len(ids)
            check_true(name + "greedy, %d tokens" % new, greedy(m, ids, new) == p["greedy_ids"])
            with_cache = m.generate(p["text"], raw=1, max_tokens=new)
            expected = m.detokenize(p["greedy_ids"][len(ids):], skip_special=True)
            check_true(name + "generate() with its cache", with_cache == expected,
                       repr(with_cache[:40]))
        for i, c in enumerate(gold["chat"]):
            answer = m.generate(c["user"], max_tokens=32)
            end = c["answer"].split("<|im_end|>")[0]
            check_true("chat %d" % i, answer == end, repr(answer[:50]))
        rows = os.path.join(work, "long.jsonl")
        with open(rows, "w") as out:
            out.write(json.dumps(dict(input_ids=gold["perplexity"]["input_ids"])) + "\n")
        check_true("long text ids", m.tokenize(gold["perplexity"]["text"]) ==
                   gold["perplexity"]["input_ids"])
        ev = m.evaluate(m.dataset(rows))
        check("perplexity %.5f" % ev.perplexity,
              abs(ev.perplexity - gold["perplexity"]["ppl"]) / gold["perplexity"]["ppl"], 1e-5)
        for name in ("smollm2", ):
            lines = [json.loads(s) for s in open(os.path.join(
                golden, "..", "..", "tokenizers", name + ".jsonl"), encoding="utf-8")]
            wrong = [s["text"] for s in lines if m.tokenize(s["text"]) != s["ids"]
                     or m.tokenize(s["text"], special=False) != s["ids_plain"]]
            check_true("%d strings to ids" % len(lines), not wrong, repr(wrong[:3]))
            wrong = [s["ids"] for s in lines if m.detokenize(s["ids_plain"]) != s["decoded"]
                     or m.detokenize(s["ids"], skip_special=True) != s["decoded_skip"]]
            check_true("%d strings decoded" % len(lines), not wrong, repr(wrong[:3]))


def run(name, gold, m, data, steps):
    got = our_train(m, data, gold["lr"], steps, 3)
    losses = got[0] + [m.evaluate(data).loss]
    check(name + " losses (%d steps)" % steps, worst(losses, gold["losses"]), LOSSES)
    check(name + " gradient norms", worst(got[1], gold["grad_norm_per_step"]), 1e-3)


def train_part(path, gold, tensors, golden, work):
    data = os.path.join(work, "batch.jsonl")
    batch = {k: torch.tensor(v) for k, v in gold["train_batch"].items()}
    write_rows(data, [batch])
    with libpeft.Model(path) as m:
        shapes = {p.name: (p.rows, p.cols) for p in m.params()}
        ev = m.evaluate(m.dataset(data))
        check("loss %.6f" % ev.loss, abs(ev.loss - gold["loss"]), 2e-5)
    for name in ("lora_qv_r4", "lora_all_r8"):
        g = gold[name]
        start = os.path.join(work, name)
        golden_adapter(start, shapes, g["targets"], g["r"], g["alpha"])
        with libpeft.Model(path) as m:
            m.load_adapter(start)
            check_true(name + " trainable", m.info.trainable == g["trainable"])
            run(name, g, m, m.dataset(data), g["steps"])
            if name == "lora_qv_r4":
                m.save_adapter(start + ".out")
                ours = load_file(os.path.join(start + ".out", "adapter_model.safetensors"))
                theirs = load_file(os.path.join(golden, "lora_step10", "adapter_model.safetensors"))
                check_true(name + " tensor names", set(ours) == set(theirs))
                check(name + " adapter after 10 steps, relative", max(
                    np.linalg.norm(ours[k] - v) / np.linalg.norm(v) for k, v in theirs.items()),
                    2e-2)
    with libpeft.Model(path) as m:
        glob = "model.layers.28.*,model.layers.29.*"
        m.freeze("*")
        m.to_float(glob)
        m.unfreeze(glob)
        run("last 2 layers", gold["partial_last2_layers"], m, m.dataset(data), 10)
    with libpeft.Model(path) as m:
        m.to_float("*")
        m.unfreeze("*")
        step, grads = our_gradients(m, m.dataset(data), 3, list(gold["grad_norms"]))
        check("gradient norm", abs(step.grad_norm - gold["grad_norm"]) / gold["grad_norm"], 1e-4)
        norms = {n: float(np.linalg.norm(g)) for n, g in grads.items()}
        errors = {n: abs(norms[n] - v) / v for n, v in gold["grad_norms"].items()}
        at = max(errors, key=errors.get)
        check("gradient norms of %d tensors (worst %s)" % (len(errors), at), errors[at], 1e-3)
        for key, name in (("grad.layer0.input_layernorm", "model.layers.0.input_layernorm.weight"),
                          ("grad.norm", "model.norm.weight"),
                          ("grad.layer0.k_proj.rows0_16",
                           "model.layers.0.self_attn.k_proj.weight")):
            want = tensors[key].astype(np.float64).ravel()
            check("gradient of %s itself" % name[len("model."):],
                  np.linalg.norm(grads[name][:want.size] - want) / np.linalg.norm(want), 1e-3)


def exact_part(path, gold, tensors, golden, work):
    """LoRA q,v again in transformers and PEFT with float64 weights and loss."""
    data, folder = os.path.join(work, "batch.jsonl"), os.path.join(work, "folder64")
    b = {k: torch.tensor(v) for k, v in gold["train_batch"].items()}
    write_rows(data, [b])
    g = gold["lora_qv_r4"]
    with libpeft.Model(path) as m:
        start = os.path.join(work, "exact")
        golden_adapter(start, {p.name: (p.rows, p.cols) for p in m.params()}, g["targets"],
                       g["r"], g["alpha"])
        m.save(folder, dtype="f32")
        m.load_adapter(start)
        got = our_train(m, m.dataset(data), g["lr"], g["steps"], 3)
        m.save_adapter(start + ".out")
    model = peft.PeftModel.from_pretrained(hf(folder), start, is_trainable=True).double().train()
    params = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(params, lr=g["lr"], foreach=False, **ADAMW)
    exact, plain = [], []
    for _ in range(g["steps"]):
        optimizer.zero_grad(set_to_none=True)
        z = model(input_ids=b["input_ids"], attention_mask=b["attention_mask"]).logits[:, :-1]
        keep = b["labels"][:, 1:] != -100
        z, y = z[keep], b["labels"][:, 1:][keep]
        loss = torch.nn.functional.cross_entropy(z.double(), y)
        loss.backward()
        optimizer.step()
        exact.append(float(loss.detach()))
        plain.append(float(torch.nn.functional.cross_entropy(z.detach().float(), y)))
    print("     cross entropy of the same logits: float32 %.8f, float64 %.8f" % (
        plain[0], exact[0]))
    print("     golden losses against these: %.3g" % worst(g["losses"][:10], exact))
    check("losses against float64", worst(got[0], exact), 5e-5)
    ours = load_file(os.path.join(start + ".out", "adapter_model.safetensors"))
    theirs = {n.replace(".default", ""): p.detach().numpy() for n, p in model.named_parameters()
              if p.requires_grad}
    check("adapter after 10 steps against float64, relative", max(
        np.linalg.norm(ours[k] - v) / np.linalg.norm(v) for k, v in theirs.items()), 5e-3)


def full_part(path, gold, tensors, golden, work):
    data = os.path.join(work, "batch.jsonl")
    write_rows(data, [{k: torch.tensor(v) for k, v in gold["train_batch"].items()}])
    with libpeft.Model(path) as m:
        m.to_float("*")
        m.unfreeze("*")
        run("full", gold["full"], m, m.dataset(data), 3)


def peft_command(*args):
    done = subprocess.run([PEFT, *args], capture_output=True, text=True)
    check_true("peft %s: exit status %d" % (args[0], done.returncode), done.returncode == 0,
               done.stderr.strip()[-300:] if done.returncode else "")
    return done.stdout


def hf(folder, dtype=torch.float32):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype,
                                                attn_implementation="eager").eval()


def prompts(gold):
    return [p["input_ids"] for p in gold["prompts"]] + [gold["perplexity"]["input_ids"]]


def folder_part(path, gold, tensors, golden, work):
    folder = os.path.join(work, "folder")
    peft_command("merge", path, "--out", folder, "--dtype", "f32")
    theirs = hf(folder)
    ids = prompts(gold)
    with libpeft.Model(path) as m, libpeft.Model(folder) as f:
        check("GGUF and its folder in libpeft, logits",
              max(max_diff(logits(m, i), logits(f, i)) for i in ids), LOGITS)
        check("folder in transformers, logits",
              max(max_diff(logits(m, i), torch_logits(theirs, i)) for i in ids), LOGITS)
        for i, p in enumerate(gold["prompts"]):
            x = torch.tensor([p["input_ids"]])
            want = theirs.generate(input_ids=x, attention_mask=torch.ones_like(x),
                                   max_new_tokens=32, do_sample=False, eos_token_id=-1)[0].tolist()
            check_true("prompt %d greedy, 32 tokens, as transformers" % i,
                       greedy(m, p["input_ids"], 32) == want)
        tok = AutoTokenizer.from_pretrained(folder)
        lines = [json.loads(s) for s in open(os.path.join(
            golden, "..", "..", "tokenizers", "smollm2.jsonl"), encoding="utf-8")]
        wrong = [s["text"] for s in lines if tok(s["text"])["input_ids"] != s["ids"]]
        check_true("AutoTokenizer of our folder, %d strings" % len(lines), not wrong,
                   repr(wrong[:3]))
        wrong = [s["text"] for s in lines if f.tokenize(s["text"]) != s["ids"]]
        check_true("libpeft's tokenizer of our folder", not wrong, repr(wrong[:3]))
        wrong = [s["ids"] for s in lines if tok.decode(s["ids"]) != s["decoded"]]
        check_true("AutoTokenizer decodes", not wrong, repr(wrong[:3]))
        for i, c in enumerate(gold["chat"]):
            t = tok.apply_chat_template([dict(role="user", content=c["user"])], tokenize=False,
                                        add_generation_prompt=True)
            check_true("chat template of our folder %d" % i, t == c["text"])
        check_true("special tokens", (tok.bos_token_id, tok.eos_token_id, tok.pad_token_id) ==
                   (m.info.bos, m.info.eos, m.info.pad),
                   "%s %s" % ((tok.bos_token_id, tok.eos_token_id, tok.pad_token_id),
                              (m.info.bos, m.info.eos, m.info.pad)))
        check_true("generation_config eos", theirs.generation_config.eos_token_id == m.info.eos,
                   str(theirs.generation_config.eos_token_id))
        for name, options, limit in (("bf16", dict(dtype="bf16"), 1.0),
                                     ("f16", dict(dtype="f16"), 0.1),
                                     ("sharded", dict(dtype="f32", shard_bytes=60 << 20), LOGITS)):
            out = os.path.join(work, name)
            m.save(out, **options)
            there = hf(out)
            files = sorted(f for f in os.listdir(out) if f.endswith("safetensors"))
            with libpeft.Model(out) as again:
                a = [logits(again, i) for i in ids]
                check("%s folder (%d files), libpeft and transformers" % (name, len(files)),
                      max(max_diff(x, torch_logits(there, i)) for x, i in zip(a, ids)), LOGITS)
                check("%s folder and the GGUF" % name,
                      max(max_diff(x, logits(m, i)) for x, i in zip(a, ids)), limit)
            shutil.rmtree(out)


def adapter_part(path, gold, tensors, golden, work):
    folder = os.path.join(work, "folder")
    if not os.path.exists(folder):
        peft_command("merge", path, "--out", folder, "--dtype", "f32")
    chats = os.path.join(work, "chats.jsonl")
    with open(chats, "w") as out:
        for i in range(12):
            out.write(json.dumps(dict(messages=[
                dict(role="user", content="What is the number %d?" % i),
                dict(role="assistant", content="It is zorp-%d." % (i * i))])) + "\n")
    ids = prompts(gold)
    for name, more in (("rslora", []), ("plain", ["--no-rslora"]),
                       ("attention", ["--targets", "q_proj,v_proj", "--rank", "5"])):
        run_dir = os.path.join(work, "run_" + name)
        peft_command("train", path, "--data", chats, "--out", run_dir, "--lr", "2e-3",
                     "--steps", "6", "--batch", "4", *more)
        with libpeft.Model(path) as m:
            before = logits(m, ids[0])
            m.load_adapter(run_dir)
            there = peft.PeftModel.from_pretrained(hf(folder), run_dir).eval()
            check_true(name + " changed the model", max_diff(before, logits(m, ids[0])) > 0.1)
            check(name + " adapter in PEFT, logits",
                  max(max_diff(logits(m, i), torch_logits(there, i)) for i in ids), LOGITS)


def merge_part(path, gold, tensors, golden, work):
    adapter = os.path.join(golden, "lora_step10")
    ids = prompts(gold)
    folder = os.path.join(work, "base")
    with libpeft.Model(path) as m:
        m.save(folder, dtype="f32")
        m.load_adapter(adapter)
        on = [logits(m, i) for i in ids]
        there = peft.PeftModel.from_pretrained(hf(folder), adapter).eval()
        check("golden adapter on, libpeft and PEFT",
              max(max_diff(a, torch_logits(there, i)) for a, i in zip(on, ids)), LOGITS)
        m.merge()
        check("merged in memory", max(max_diff(a, logits(m, i)) for a, i in zip(on, ids)), LOGITS)
    for name, dtype, limit in (("m.gguf", None, LOGITS), ("m32.gguf", "f32", LOGITS),
                               ("m16.gguf", "f16", 0.1), ("mb16.gguf", "bf16", 1.0),
                               ("m32", "f32", LOGITS), ("mb16", "bf16", 1.0)):
        out = os.path.join(work, name)
        peft_command("merge", path, "--adapter", adapter, "--out", out,
                     *(["--dtype", dtype] if dtype else []))
        with libpeft.Model(out) as m:
            check("merged into %s (%s), adapter on" % (name, m.info.types),
                  max(max_diff(a, logits(m, i)) for a, i in zip(on, ids)), limit)
        if name == "m32":
            there = hf(out)
            check("merged folder in transformers, adapter on",
                  max(max_diff(a, torch_logits(there, i)) for a, i in zip(on, ids)), LOGITS)
        (shutil.rmtree if os.path.isdir(out) else os.remove)(out)


PARTS = dict(text=text_part, train=train_part, full=full_part, exact=exact_part,
             folder=folder_part, adapter=adapter_part, merge=merge_part)


def main():
    path, golden = sys.argv[1:3]
    gold = json.load(open(os.path.join(golden, "golden.json")))
    tensors = load_file(os.path.join(golden, "tensors.safetensors"))
    with tempfile.TemporaryDirectory() as work:
        for name in sys.argv[3:] or PARTS:
            print("--", name)
            try:
                PARTS[name](path, gold, tensors, golden, work)
            except Exception as error:
                check_true(name + " raised", False, "%s: %s" % (type(error).__name__, error))
    finish()


main()
