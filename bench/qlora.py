"""Training on bases of fewer bits: memory against the plan, and speed against floats.

    python bench/qlora.py --peft build/release/peft --model FILE.gguf --folder FOLDER

FILE is a quantised model, FOLDER the same model's floats.  Memory: batch 1 of 512 tokens,
layers recomputed; the most that the process had resident (VmHWM) against what `peft plan`
said.  Speed: the same rows on the file's blocks, on NF4 made at loading and on floats, in
turns, so that what else the machine does hits all; medians of each pair's ratio.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile

RANK = 16


def rows_file(args, path, length, rows):
    text = open("README.md", encoding="utf-8").read() + open("include/peft.h").read()
    out = subprocess.run([args.peft, "tokenize", args.model, "--plain", "--json"],
                         input=text.encode(), stdout=subprocess.PIPE, check=True)
    ids = json.loads(out.stdout)["ids"]
    with open(path, "w") as f:
        for i in range(rows):
            row = [ids[(i * length + k) % len(ids)] for k in range(length)]
            f.write(json.dumps({"input_ids": row, "labels": row}) + "\n")
    return path


def options(args, data, work, steps, extra):
    return ["--data", data, "--batch", "1", "--steps", str(steps), "--rank", str(RANK), "--max-len",
            "512", "--no-shuffle", "--schedule", "constant", "--threads", str(args.threads),
            "--json"] + extra


def train(args, model, data, work, steps, extra):
    """Rows of the log, and the peak before the adapter is saved and in all."""
    command = [args.peft, "train", model] + options(args, data, work, steps, extra) + [
        "--overwrite", "--out", os.path.join(work, "run")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    rows = [row for row in map(json.loads, process.stdout) if "loss" in row]
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit("bench: %s failed" % " ".join(command))
    return rows, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def memory(args, kinds, work):
    data = rows_file(args, os.path.join(work, "long.jsonl"), 512, 4)
    layers = ["--recompute", "layers"]
    print("%-22s %9s %9s %9s %9s" % ("1 x 512, MB", "planned", "training", "in all", "of plan"))
    for name, (model, extra) in kinds.items():
        if name == "floats":
            continue
        plan = subprocess.run([args.peft, "plan", model] + options(args, data, work, 4,
                                                                  layers + extra),
                              stdout=subprocess.PIPE, check=True)
        planned = json.loads(plan.stdout)["peak_bytes"]
        rows, peak = train(args, model, data, work, 4, layers + extra)
        resident = max(r["rss_bytes"] for r in rows)
        print("%-22s %9.1f %9.1f %9.1f %9.3f" % (name, planned / 1e6, resident / 1e6, peak / 1e6,
                                                 peak / planned), flush=True)


def speed(args, kinds, work):
    data = rows_file(args, os.path.join(work, "rows.jsonl"), args.length, args.steps)
    found = {name: [] for name in kinds}
    for _ in range(args.rounds):
        for name, (model, extra) in kinds.items():
            rows, _ = train(args, model, data, work, args.steps, extra)
            found[name].append(statistics.median(r["tokens_per_second"] for r in rows[1:]))
    print("%-22s %9s %9s" % ("1 x %d" % args.length, "tokens/s", "of floats"))
    for name, speeds in found.items():
        ratio = statistics.median(a / b for a, b in zip(speeds, found["floats"]))
        print("%-22s %9.0f %9.2f" % (name, statistics.median(speeds), ratio))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("peft", "model", "folder"):
        parser.add_argument("--" + name, required=True)
    for name, default in (("threads", 2), ("steps", 5), ("rounds", 3), ("length", 256)):
        parser.add_argument("--" + name, type=int, default=default)
    args = parser.parse_args()
    kinds = {"floats": (args.folder, []), "the file's blocks": (args.model, []),
             "--quant nf4": (args.folder, ["--quant", "nf4"])}
    with tempfile.TemporaryDirectory() as work:
        memory(args, kinds, work)
        speed(args, kinds, work)


main()
