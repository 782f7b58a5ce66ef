"""Products in bfloat16 against float32 over a whole run: is their difference noise?

    python bench/curve.py --peft build/release/peft --model FILE.gguf [--seeds 3]

Trains the demo (LoRA on examples/data/support.jsonl) with each seed in both kinds, and
prints the training loss (mean of ten steps) and the evaluation loss after each epoch.  What
a seed changes is the measure: `compute auto` takes bfloat16 since the difference between the
kinds at one seed is smaller than that between seeds in one kind.
"""
import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile

KINDS = ("f32", "bf16")


def run(args, kind, seed, work):
    command = [args.peft, "train", args.model, "--data", "examples/data/support.jsonl", "--eval",
               "examples/data/support_eval.jsonl", "--lr", "1e-3", "--epochs", str(args.epochs),
               "--warmup", "0.05", "--seed", str(seed), "--compute", kind, "--threads",
               str(args.threads), "--json", "--overwrite", "--out", os.path.join(work, "run")]
    out = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    if out.returncode:
        sys.exit("bench: %s failed" % " ".join(command))
    rows = [json.loads(line) for line in out.stdout.splitlines()]
    loss = [r["loss"] for r in rows if "loss" in r]
    return {"train": [statistics.mean(loss[i:i + 10]) for i in range(0, len(loss), 10)],
            "eval": [r["eval_loss"] for r in rows if "eval_loss" in r]}


def apart(runs, pairs, what):
    """Root mean square and largest distance of the curves of pairs of runs."""
    gaps = [abs(a - b) for x, y in pairs for a, b in zip(runs[x][what], runs[y][what])]
    return statistics.fmean(g * g for g in gaps) ** 0.5, max(gaps)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--peft", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    args = parser.parse_args()
    seeds = range(args.seeds)
    with tempfile.TemporaryDirectory() as work:
        runs = {(k, s): run(args, k, s, work) for s in seeds for k in KINDS}
    for what in ("train", "eval"):
        print("%s loss" % what)
        for (kind, seed), curves in runs.items():
            print("  %-4s seed %d  %s" % (kind, seed, " ".join("%.4f" % x for x in curves[what])))
    groups = {"bf16 against f32, one seed": [(("f32", s), ("bf16", s)) for s in seeds],
              "two seeds, f32": list(itertools.combinations([("f32", s) for s in seeds], 2))}
    print("%-28s %12s %9s %12s %9s" % ("distance", "train, rms", "largest", "eval, rms", "largest"))
    for name, pairs in groups.items():
        print("%-28s %12.4f %9.4f %12.4f %9.4f" %
              ((name,) + apart(runs, pairs, "train") + apart(runs, pairs, "eval")))


if __name__ == "__main__":
    main()
