"""Training above a frozen part: libpeft beside PyTorch, epoch by epoch.

    head    a linear head on MiniLM's mean of tokens, sentences of reviews, batches of 32
    layers  the last four layers of SmolLM2-135M, batches of 4 x 256 tokens, all trained

PyTorch runs the frozen part without gradients and pads a batch to its longest text.
Both see the same rows in the same order from the same weights, so that their losses
must agree.  Each contender is a process of its own; they take turns.  What is timed is
an epoch of steps on the wall clock, loading and tokenising left out.

    BENCH_PYTHON=... python3 bench/prefix.py --minilm DIR --smollm2 DIR --reviews FILE
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "bindings", "python"))
RATE = {"head": 1e-2, "layers": 1e-4}
BATCH = {"head": 32, "layers": 4}
PRECISIONS = {"f32": "float32", "bf16": "bfloat16"}     # ours, and PyTorch's name
LENGTH, LAYERS = 256, 4
# The least that `make bench` asks of the first epoch, and of later ones.
AIMS = {"head": (1.5, 50), "layers": (2, 2)}


def head_rows(args, path):
    rows = []
    with open(args.reviews, encoding="utf-8", errors="replace") as f:
        for line in f:
            parts = line.rstrip("\n").split("\t")
            if len(parts) == 3 and abs(float(parts[1])) >= 1:
                rows.append({"text": parts[2].strip(),
                             "label": "positive" if float(parts[1]) > 0 else "negative"})
    with open(path, "w", encoding="utf-8") as f:
        f.writelines(json.dumps(row) + "\n" for row in rows[:BATCH["head"] * args.steps])


def layers_rows(args, path):
    """The texts of the repository, cut every LENGTH tokens."""
    import libpeft
    text = ""
    for name in ("README.md", "docs/embedding.md", "docs/cli.md", "docs/methods.md",
                 "include/peft.h"):
        with open(name, encoding="utf-8") as f:
            text += f.read()
    ids = libpeft.Model(args.smollm2).tokenize(text)
    n = BATCH["layers"] * max(args.steps // 4, 2)
    ids = ids * (n * LENGTH // len(ids) + 1)
    with open(path, "w") as f:
        for i in range(n):
            row = ids[i * LENGTH:(i + 1) * LENGTH]
            f.write(json.dumps({"input_ids": row, "labels": row}) + "\n")


ROWS = {"head": head_rows, "layers": layers_rows}


def say(epoch, seconds, loss, tokens):
    print(json.dumps({"epoch": epoch, "seconds": seconds, "loss": loss, "tokens": tokens}),
          flush=True)


def ours(args):
    import libpeft
    model = libpeft.Model(args.model, threads=args.threads, compute=args.compute)
    model.freeze("*")
    if args.task == "head":
        model.add_head(["negative", "positive"], pool="mean", seed=1)
        with open(args.start, "w") as f:
            json.dump({p.name: list(model.read(p.name)) for p in model.params() if p.trainable}, f)
    else:
        for i in range(LAYERS):
            model.unfreeze("model.layers.%d.*" % (model.info.layers - LAYERS + i))
    data = model.dataset(args.data)
    options = {"cache_file": args.cache_file} if args.cache_file else {}
    trainer = model.trainer(data, lr=RATE[args.task], schedule="constant", clip=-1.0,
                            batch=BATCH[args.task], epochs=args.epochs, no_shuffle=1,
                            feature_cache=args.cache, **options)
    losses, tokens, epoch, begin = [], 0, 0, time.perf_counter()
    for step in trainer:
        losses.append(step.loss)
        tokens += step.tokens
        if step.epoch > epoch + 1 - 1e-9:
            epoch += 1
            say(epoch, time.perf_counter() - begin, statistics.mean(losses), tokens)
            losses, tokens, begin = [], 0, time.perf_counter()


def torch_head(args, torch):
    from transformers import AutoModel, AutoTokenizer
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    body = AutoModel.from_pretrained(args.model, dtype=getattr(torch, args.compute)).eval()
    start = json.load(open(args.start))
    head = torch.nn.Linear(body.config.hidden_size, 2)
    with torch.no_grad():
        for name, p in (("weight", head.weight), ("bias", head.bias)):
            p.copy_(torch.tensor(start["classifier." + name]).reshape(p.shape))
    names = {"negative": 0, "positive": 1}
    rows = [json.loads(line) for line in open(args.data, encoding="utf-8")]
    ids = [tokenizer(r["text"])["input_ids"] for r in rows]
    labels = torch.tensor([names[r["label"]] for r in rows])

    def loss_of(i):
        part = ids[i:i + args.batch]
        batch = tokenizer.pad({"input_ids": part}, return_tensors="pt")
        with torch.no_grad():
            hidden = body(**batch).last_hidden_state
            mask = batch["attention_mask"].unsqueeze(-1).to(hidden.dtype)
            pooled = ((hidden * mask).sum(1) / mask.sum(1)).float()
        loss = torch.nn.functional.cross_entropy(head(pooled), labels[i:i + args.batch])
        return loss, sum(map(len, part))

    return len(ids), head.parameters(), loss_of


def torch_layers(args, torch):
    from transformers import AutoModelForCausalLM
    model = AutoModelForCausalLM.from_pretrained(args.model, dtype=getattr(torch, args.compute))
    model.train()
    for p in model.parameters():
        p.requires_grad = False
    for layer in model.model.layers[-LAYERS:]:
        for p in layer.parameters():
            p.requires_grad = True
    rows = [json.loads(line)["input_ids"] for line in open(args.data)]

    def loss_of(i):
        batch = torch.tensor(rows[i:i + args.batch])
        return model(input_ids=batch, labels=batch).loss, batch.numel()

    return len(rows), [p for p in model.parameters() if p.requires_grad], loss_of


def theirs(args):
    import torch
    import transformers
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(args.threads)
    args.batch = BATCH[args.task]
    make = {"head": torch_head, "layers": torch_layers}[args.task]
    n, trained, loss_of = make(args, torch)
    optimizer = torch.optim.AdamW(trained, lr=RATE[args.task], weight_decay=0.0)
    for epoch in range(args.epochs):
        losses, tokens, begin = [], 0, time.perf_counter()
        for i in range(0, n, args.batch):
            loss, count = loss_of(i)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
            tokens += count
        say(epoch + 1, time.perf_counter() - begin, statistics.mean(losses), tokens)


def run(command):
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log)
        rows = [json.loads(line) for line in process.stdout]
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            log.seek(0)
            sys.exit("bench: %s\n%s" % (" ".join(command),
                                         log.read().decode(errors="replace")[-2000:]))
    return {"epochs": rows, "peak": usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)}


def contenders(args, task, data, start):
    def command(python, who, compute, *more, epochs=args.epochs):
        model = args.minilm if task == "head" else args.smollm2
        return [python, __file__, "--work", who, "--task", task, "--model", model, "--data", data,
                "--start", start, "--threads", str(args.threads), "--epochs", str(epochs),
                "--compute", compute, *more]

    found = {}
    for bits, names in PRECISIONS.items():
        if args.precision not in (bits, "both"):
            continue
        found["libpeft, " + bits] = command(sys.executable, "ours", bits)
        if args.python:
            found["PyTorch, " + bits] = command(args.python, "theirs", names, epochs=2)
    return found


def summary(runs):
    epochs = [[r["epochs"][i]["seconds"] for r in runs] for i in range(len(runs[0]["epochs"]))]
    return {"first_epoch_seconds": statistics.median(epochs[0]),
            "later_epoch_seconds": statistics.median(s for e in epochs[1:] for s in e),
            "tokens": runs[0]["epochs"][0]["tokens"], "peak_bytes": max(r["peak"] for r in runs),
            "losses": [e["loss"] for e in runs[0]["epochs"]]}


def show(task, results):
    print("\n%-20s %12s %12s %10s   %s" % (task, "epoch 1", "later ones", "peak", "losses"))
    for name, r in results.items():
        print("%-20s %10.3f s %10.4f s %7.0f MB   %s"
              % (name, r["first_epoch_seconds"], r["later_epoch_seconds"], r["peak_bytes"] / 1e6,
                 " ".join("%.5f" % x for x in r["losses"])))
    ratios = {}
    for bits in PRECISIONS:
        one, peer = results.get("libpeft, " + bits), results.get("PyTorch, " + bits)
        if not one or not peer:
            continue
        epoch = min(peer["first_epoch_seconds"], peer["later_epoch_seconds"])
        ratios[bits] = [epoch / one[key] for key in ("first_epoch_seconds", "later_epoch_seconds")]
        print("%s: epoch 1 %.2f times PyTorch's speed (aim %g), later ones %.1f (aim %g)"
              % (bits, ratios[bits][0], AIMS[task][0], ratios[bits][1], AIMS[task][1]))
    return ratios


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("minilm", "smollm2", "reviews", "work", "task", "model", "data", "start",
                 "cache-file"):
        parser.add_argument("--" + name)
    parser.add_argument("--python", default=os.environ.get("BENCH_PYTHON"))
    parser.add_argument("--out", default="build/bench")
    parser.add_argument("--compute", default="f32")
    parser.add_argument("--precision", default="f32", help="f32, bf16 or both")
    for name, value in (("threads", os.cpu_count()), ("steps", 16), ("epochs", 3), ("rounds", 1),
                        ("cache", 0)):
        parser.add_argument("--" + name, type=int, default=value)
    args = parser.parse_args()
    if args.work:
        return {"ours": ours, "theirs": theirs}[args.work](args)
    os.makedirs(args.out, exist_ok=True)
    all_results = {"threads": args.threads, "epochs": args.epochs, "rounds": args.rounds}
    for task in ([args.task] if args.task else ["head", "layers"]):
        data, start = (os.path.join(args.out, "prefix_%s.%s" % (task, end))
                       for end in ("jsonl", "start"))
        ROWS[task](args, data)
        commands = contenders(args, task, data, start)
        runs = {name: [] for name in commands}
        for i in range(args.rounds):
            for name, command in commands.items():
                runs[name].append(run(command))
        results = {name: summary(r) for name, r in runs.items()}
        all_results[task] = {"results": results, "ratios": show(task, results)}
    path = os.path.join(args.out, "prefix.json")
    with open(path, "w") as f:
        json.dump(all_results, f, indent=2)
    print("\nAll figures: " + path)


main()
