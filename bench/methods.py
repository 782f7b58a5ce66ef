"""Every method on the same data: the tables of docs/methods.md.

Two tasks, each with rows that training never sees: sentences of product reviews into
positive and negative with MiniLM, and the answers of a support desk with SmolLM2 on its 4-bit
weights.  All methods run at their default settings and learning rates, so a table also says
whether those are of use.  The library says which methods there are.

    quality  trains and evaluates: figures that other work on the machine does not change
    speed    a few steps of each method in turns, several rounds; the ratio of its tokens a
             second to LoRA's in the same round
    sweep    one method's held-out figure at several learning rates

Results are kept in OUT/TASK.json; `table` prints them, and writes them between the marks of
docs/methods.md.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import zlib

FIRST = [("full", ["--method", "full", "--to-float"]), ("head", ["--method", "head"]),
         ("bitfit", ["--method", "bitfit", "--to-float"])]
SUPPORT = "examples/data/support.jsonl", "examples/data/support_eval.jsonl"
BEGIN, END = "<!-- bench/methods.py: %s -->", "<!-- end -->"


def sentiment_data(args):
    """Reviews that 20 people rated from -4 to 4 (Hutto and Gilbert 2014), without those near
    0: every third sentence, told by a hash of its text, is held out."""
    split = {True: [], False: []}
    with open(args.sentiment, encoding="utf-8", errors="replace") as f:
        for line in f:
            parts = line.rstrip("\n").split("\t")
            if len(parts) == 3 and abs(float(parts[1])) >= 1:
                row = {"text": parts[2].strip(),
                       "label": "positive" if float(parts[1]) > 0 else "negative"}
                key = zlib.crc32(parts[2].encode())
                split[key % 3 == 0].append((key, row))
    paths = [os.path.join(args.out, "sentiment_%s.jsonl" % n) for n in ("train", "test")]
    for path, rows in zip(paths, (split[False], split[True])):
        rows = sorted(rows, key=lambda r: r[0])[:1000 if rows is split[False] else 500]
        with open(path, "w", encoding="utf-8") as f:
            f.writelines(json.dumps(row) + "\n" for _, row in rows)
    return paths


# name: model, data, the held-out figure, its heading, seeds, options, epochs, steps of a speed
# round
TASKS = {
    "sentiment": ("minilm", sentiment_data, "eval_accuracy", "accuracy", 1,
                  ["--batch", "16", "--warmup", "0.1"], 2, 8),
    "support": ("smollm2", lambda args: SUPPORT, "eval_loss", "held-out loss", 1,
                ["--batch", "4", "--warmup", "0.1", "--max-len", "256"], 1, 3),
}


def methods(args):
    rows = json.loads(subprocess.run([args.peft, "list", "methods", "--json"], check=True,
                                     stdout=subprocess.PIPE).stdout.decode())
    return dict(FIRST + [(r["name"], ["--method", r["name"]]) for r in rows])


def train(args, task, options, data, seed=0, steps=0):
    """The rows of one run, its summary, its peak memory and the size of what it wrote; or the
    reason why the method does not go with the model."""
    model = getattr(args, TASKS[task][0])
    with tempfile.TemporaryDirectory(dir=args.out) as work:
        out, log = os.path.join(work, "run"), open(os.path.join(work, "log"), "w+b")
        command = [args.peft, "train", model, "--data", data[0], "--out", out, "--json",
                   "--threads", str(args.threads), "--seed", str(seed), *TASKS[task][5], *options]
        command += ["--steps", str(steps)] if steps else [
            "--epochs", str(TASKS[task][6]), "--eval", data[1]]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log)
        rows = [json.loads(line) for line in process.stdout if line.startswith(b'{"step"')]
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        log.seek(0)
        text = log.read().decode(errors="replace")
        if process.returncode:
            return {"error": text.strip().splitlines()[-1]}
        files = [f for f in os.listdir(out) if f.endswith((".safetensors", ".gguf"))]
        return {"rows": rows, "trainable": trainable(text),
                "peak": usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024),
                "bytes": sum(os.path.getsize(os.path.join(out, f)) for f in files)}


def trainable(text):
    return int(text.split("trainable params: ")[1].split(" ")[0].replace(",", ""))


def last(run, key):
    return [r[key] for r in run["rows"] if key in r][-1]


def load(args, task):
    path = os.path.join(args.out, task + ".json")
    return json.load(open(path)) if os.path.exists(path) else {}


def keep(args, task, name, result):
    found = load(args, task)
    found[name] = dict(found.get(name, {}), **result)
    with open(os.path.join(args.out, task + ".json"), "w") as f:
        json.dump(found, f, indent=1)


def quality(args, task, data, rows):
    key = TASKS[task][2]
    for name, options in rows.items():
        runs = [train(args, task, options, data, seed) for seed in range(TASKS[task][4])]
        if "error" in runs[0]:
            print("%s, %s: %s" % (task, name, runs[0]["error"]), flush=True)
            continue
        result = {"figures": [last(r, key) for r in runs], "before": runs[0]["rows"][0][key],
                  "peak": max(r["peak"] for r in runs), "trainable": runs[0]["trainable"],
                  "bytes": runs[0]["bytes"],
                  "lr": max(r.get("learning_rate", 0) for r in runs[0]["rows"])}
        keep(args, task, name, result)
        print("%s, %s: %s" % (task, name, result), flush=True)


def speed(args, task, data, rows):
    """Ratios within a round, so that what slows the machine slows both."""
    ratios = {name: [] for name in rows}
    for i in range(args.rounds):
        now = {}
        for name, options in rows.items():
            run = train(args, task, options, data, steps=TASKS[task][7])
            if "error" not in run:
                now[name] = statistics.median(r["tokens_per_second"] for r in run["rows"][1:])
        for name in now:
            ratios[name].append(now[name] / now["lora"])
        print("%s, round %d: %s" % (task, i + 1, {n: round(v) for n, v in now.items()}),
              flush=True)
    for name, found in ratios.items():
        if found:
            keep(args, task, name, {"speed": statistics.median(found)})


def sweep(args, task, data, rows):
    for name, options in rows.items():
        for lr in args.lr:
            run = train(args, task, options + ["--lr", str(lr)], data)
            print("%s, %s, lr %g: %s" % (task, name, lr, run.get("error") or "%.4f (loss %.4f)" % (
                last(run, TASKS[task][2]), last(run, "eval_loss"))), flush=True)


def table(args, task):
    lines = ["| method | learning rate | %s | trainable | file | peak memory | speed, LoRA = 1 |"
             % TASKS[task][3], "|---|---|---|---|---|---|---|"]
    found = load(args, task)
    if "before" in found.get("lora", {}):
        lines.append("| before | | %.3f | | | | |" % found["lora"]["before"])
    for name in methods(args):
        r = found.get(name, {})
        if "figures" in r:
            lines.append("| `%s` | %g | %.3f | %s | %s | %.0f MB | %s |" % (
                name, r["lr"], statistics.mean(r["figures"]), "{:,}".format(r["trainable"]),
                size(r["bytes"]), r["peak"] / 1e6,
                "%.2f" % r["speed"] if "speed" in r else ""))
    return "\n".join(lines)


def size(n):
    return "%.1f MB" % (n / 1e6) if n >= 1e5 else "%.1f kB" % (n / 1e3)


def write(args, tasks):
    with open("docs/methods.md", encoding="utf-8") as f:
        text = f.read()
    for task in tasks:
        head, rest = text.split(BEGIN % task)
        text = head + BEGIN % task + "\n\n" + table(args, task) + "\n\n" + END + \
            rest.split(END, 1)[1]
    with open("docs/methods.md", "w", encoding="utf-8") as f:
        f.write(text)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("mode", choices=["quality", "speed", "sweep", "table", "write"])
    for name in ("peft", "out", "minilm", "smollm2", "sentiment"):
        parser.add_argument("--" + name, required=True)
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--methods", help="comma-separated; all by default")
    parser.add_argument("--lr", type=lambda s: [float(x) for x in s.split(",")])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    os.makedirs(args.out, exist_ok=True)
    tasks = args.tasks.split(",")
    if args.mode == "write":
        return write(args, tasks)
    for task in tasks:
        if args.mode == "table":
            print("\n%s\n\n%s" % (task, table(args, task)))
            continue
        rows = methods(args)
        if args.methods:
            rows = {name: rows[name] for name in args.methods.split(",")}
        if args.mode == "speed" and "lora" not in rows:
            parser.error("speed is told as a ratio to lora's, which --methods leaves out")
        {"quality": quality, "speed": speed, "sweep": sweep}[args.mode](
            args, task, TASKS[task][1](args), rows)


main()
