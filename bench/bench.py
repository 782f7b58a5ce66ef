"""Runs libpeft and its peer in turns and prints the comparison.

A contender is a command that prints one JSON row a step.  What is measured is
the same for all: tokens a second (median over all steps but each run's first),
peak resident memory as the kernel counts it, and the seconds from the start of
the process to the end of its first step.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

BATCH, LENGTH, RANK, ALPHA, RATE = 4, 256, 16, 32, 1e-3


def make_data(args, path):
    """Rows of LENGTH tokens, all trained, from the texts of the repository."""
    text = ""
    for name in ("README.md", "docs/embedding.md", "docs/cli.md", "examples/data/support.jsonl",
                 "include/peft.h"):
        if os.path.exists(name):
            with open(name, encoding="utf-8") as f:
                text += f.read()
    out = subprocess.run([args.peft, "tokenize", args.model, "--plain", "--json"],
                         input=text.encode(), stdout=subprocess.PIPE, check=True)
    ids = json.loads(out.stdout)["ids"]
    rows = BATCH * args.steps
    ids = ids * (rows * LENGTH // len(ids) + 1)
    with open(path, "w") as f:
        for i in range(rows):
            row = ids[i * LENGTH:(i + 1) * LENGTH]
            f.write(json.dumps({"input_ids": row, "labels": row}) + "\n")


def run(command):
    """The rows of one run, its peak memory, and the time to its first step."""
    log = tempfile.TemporaryFile()
    start = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log)
    rows, first = [], None
    for line in process.stdout:
        row = json.loads(line)
        if "loss" in row:
            first = first or time.monotonic() - start
            rows.append(row)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        log.seek(0)
        sys.exit("bench: %s\n%s" % (" ".join(command),
                                     log.read().decode(errors="replace")[-2000:]))
    scale = 1 if sys.platform == "darwin" else 1024
    return {"rows": rows, "peak": usage.ru_maxrss * scale, "first": first}


def summary(runs):
    speeds = [r["tokens_per_second"] for one in runs for r in one["rows"][1:]]
    return {"tokens_per_second": statistics.median(speeds),
            "peak_bytes": max(one["peak"] for one in runs),
            "first_step_seconds": min(one["first"] for one in runs),
            "losses": [r["loss"] for r in runs[0]["rows"]]}


def contenders(args, data, adapter):
    train = [args.peft, "train", args.model, "--data", data, "--batch", str(BATCH),
             "--steps", str(args.steps), "--lr", str(RATE), "--schedule", "constant",
             "--clip", "0", "--no-shuffle", "--threads", str(args.threads), "--json",
             "--overwrite", "--out", os.path.join(args.out, "run")]
    if args.python:
        train += ["--adapter", adapter]
    else:
        train += ["--rank", str(RANK), "--alpha", str(ALPHA), "--no-rslora"]
    found = {"libpeft": train, "libpeft, recompute": train + ["--recompute", "layers"],
             "libpeft, bfloat16": train + ["--compute", "auto"]}
    peer = [args.python, "bench/peer.py", args.folder, adapter, "--data", data,
            "--batch", str(BATCH), "--lr", str(RATE), "--threads", str(args.threads)]
    if args.python:
        found["PyTorch + PEFT"] = peer
        found["PyTorch + PEFT, checkpointing"] = peer + ["--checkpointing"]
        found["PyTorch + PEFT, bfloat16"] = peer + ["--dtype", "bfloat16"]
    return found


def show(results):
    print("\n%-30s %10s %12s %18s" % ("", "tokens/s", "peak memory", "first step after"))
    for name, r in results.items():
        print("%-30s %10.0f %9.0f MB %16.1f s" % (name, r["tokens_per_second"],
                                                  r["peak_bytes"] / 1e6, r["first_step_seconds"]))
    peer = results.get("PyTorch + PEFT")
    if not peer:
        return
    ours = results["libpeft"]
    print("\nlibpeft trains %.2f times as many tokens a second, in %.2f of the memory, and ends "
          "its first step %.1f times sooner."
          % (ours["tokens_per_second"] / peer["tokens_per_second"],
             ours["peak_bytes"] / peer["peak_bytes"],
             peer["first_step_seconds"] / ours["first_step_seconds"]))
    half, other = results["libpeft, bfloat16"], results["PyTorch + PEFT, bfloat16"]
    best = max(peer["tokens_per_second"], other["tokens_per_second"])
    print("In bfloat16, where the processor has it: %.2f times the better of PyTorch's two."
          % (half["tokens_per_second"] / best))
    print("\nstep       " + "  ".join("%8d" % (i + 1) for i in range(len(ours["losses"]))))
    for name, r in (("ours", ours), ("peer", peer), ("ours, bf16", half), ("peer, bf16", other)):
        print("%-10s " % name + "  ".join("%8.5f" % loss for loss in r["losses"]))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("peft", "model", "folder", "python", "out"):
        parser.add_argument("--" + name, required=True)
    for name in ("threads", "steps", "rounds"):
        parser.add_argument("--" + name, type=int, required=True)
    args = parser.parse_args()
    os.makedirs(args.out, exist_ok=True)
    data, adapter = os.path.join(args.out, "data.jsonl"), os.path.join(args.out, "adapter0")
    make_data(args, data)
    if args.python:
        subprocess.run([args.python, "bench/peer.py", args.folder, adapter, "--make-adapter",
                        str(RANK), str(ALPHA)], check=True)
    commands = contenders(args, data, adapter)
    runs = {name: [] for name in commands}
    for i in range(args.rounds):
        for name, command in commands.items():
            print("round %d of %d: %s" % (i + 1, args.rounds, name), file=sys.stderr)
            runs[name].append(run(command))
    results = {name: summary(all_runs) for name, all_runs in runs.items()}
    show(results)
    path = os.path.join(args.out, "result.json")
    with open(path, "w") as f:
        json.dump({"batch": BATCH, "length": LENGTH, "rank": RANK, "threads": args.threads,
                   "steps": args.steps, "rounds": args.rounds, "results": results}, f, indent=2)
    print("\nAll figures: " + path)


main()
