"""Whether `--memory` is held: runs of bench/plan.py's kinds under limits from generous to the
smallest one that a refusal names, each with the most that was resident, by the run's own account.

    python3 bench/limits.py --peft build/release/peft --model FILE --folder DIR --minilm DIR \\
        --reviews FILE --out build/bench
"""
import argparse
import os
import re
import subprocess
import sys

import data
import plan

CASES = {
    "LoRA on Q4_1": ("model", "mixed", ["--method", "lora", "--batch", "4", "--steps", "2"]),
    "LoRA, f32 folder": ("folder", "mixed", ["--method", "lora", "--batch", "2", "--steps", "2"]),
    "LoRA, packs of 256": ("model", "mixed", ["--method", "lora", "--packing", "--max-len", "256",
                                              "--batch", "2", "--steps", "2"]),
    "last 2 layers, frozen outputs kept": ("folder", "brief", [
        "--method", "last", "--epochs", "2", "--lr", "1e-4"]),
    "full on MiniLM": ("minilm", "reviews", ["--method", "full", "--batch", "16", "--steps", "4"]),
    "LoRA on MiniLM, with evaluation": ("minilm", "reviews", [
        "--method", "lora", "--batch", "16", "--steps", "4", "--eval", "0.2"]),
    "head on MiniLM": ("minilm", "reviews", ["--method", "head", "--batch", "32", "--epochs",
                                             "2"]),
    "pairs on MiniLM": ("minilm", "pairs", ["--method", "lora", "--batch", "8", "--steps", "4"]),
    "encoder-decoder": ("t5", "sources", ["--method", "full", "--batch", "8", "--steps", "4"]),
    "pictures": ("vit", "pictures", ["--method", "lora", "--batch", "16", "--steps", "4"]),
    "pictures, head": ("vit", "pictures", ["--method", "head", "--batch", "16", "--epochs", "2"]),
}
UNITS = {"KB": 1e3, "MB": 1e6, "GB": 1e9}


def run(args, places, name, limit):
    """The peak in bytes, or what a refusal names, negative."""
    model, rows, options = CASES[name]
    command = [args.peft, "train", places[model], "--data", places[rows], "--out",
               os.path.join(args.out, "limits-run"), "--overwrite", "--probe", "none"] + options
    if limit:
        command += ["--memory", "%dM" % (limit // 1000000)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    text = done.stderr.decode(errors="replace")
    refused = re.search(r"smallest that works is (\d+)M", text)
    if refused:
        return -int(refused.group(1)) * 1000000
    if done.returncode:
        sys.exit("%s\n%s" % (" ".join(command), text))
    peak = re.search(r"peak memory ([\d.]+) (..)\)", text)
    return float(peak.group(1)) * UNITS[peak.group(2)]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("peft", "model", "folder", "minilm", "reviews", "out", "only"):
        parser.add_argument("--" + name, default="")
    args = parser.parse_args()
    args.path = lambda name: os.path.join(args.out, name)
    args.ids = data.tokens(args.peft, args.model)
    places, broken = plan.prepare(args), 0
    for name in CASES:
        if args.only not in name:
            continue
        free, least = run(args, places, name, 0), -run(args, places, name, 1000000)
        print("%-36s no limit: %4.0f MB, least: %4.0f MB;" % (name, free / 1e6, least / 1e6),
              end="")
        for share in (1, 0.6, 0.3, 0):
            limit = int(least + max(free - least, 0) * share)
            peak = run(args, places, name, limit)
            held = 0 < peak <= limit // 1000000 * 1000000
            broken += not held
            print("  %4.0f of %4.0f%s" % (peak / 1e6, limit / 1e6, "" if held else " BROKEN"),
                  end="", flush=True)
        print()
    sys.exit("%d limits were not held" % broken if broken else 0)


if __name__ == "__main__":
    main()
