"""What `peft plan` says beside what `peft train` then takes: seconds of all steps, and
megabytes while they are made.

A case is a model, its rows and the options of a run of a second or two; plan and run
follow each other on the same machine, three times: medians count, and beside them stands
how far apart equal runs were.  Seconds are those of the steps, by the run's own rows.
Encoder-decoders and pictures are random models, made of the small ones of tests/golden by
larger sizes.

    BENCH_ONLY=plan make bench       BENCH_ONLY=plan/MiniLM: cases of this name
"""
import json
import os
import random
import re
import shutil
import statistics
import struct
import subprocess
import sys

import data
from contender import Failed, UNIT

ROUNDS = 3
# Options beside --method, and what the rows are.
LAST = ["--method", "last", "--last", "4", "--lr", "1e-4", "--no-shuffle"]
LORA = ["--method", "lora", "--batch", "4"]
CASES = {
    "LoRA, f32": ("folder", "even", LORA, 2),
    "LoRA, bf16": ("folder", "even", LORA + ["--compute", "bf16"], 4),
    "LoRA, chats of 20 to 250 tokens": ("folder", "mixed", LORA, 0),
    "LoRA, half of the tokens masked": ("folder", "masked", LORA, 2),
    "LoRA, layers recomputed": ("folder", "even", LORA + ["--recompute", "layers"], 3),
    "LoRA, packs of 256": ("folder", "mixed", ["--method", "lora", "--packing", "--max-len",
                                               "256", "--batch", "2"], 0),
    "LoRA, 1 x 1024": ("folder", "long", ["--method", "lora", "--batch", "1"], 3),
    "LoRA, 8-bit optimizer": ("folder", "even", LORA + ["--optim-states", "8bit"], 3),
    "LoRA on Q4_1": ("model", "even", LORA, 2),
    "LoRA on Q4_1, bf16": ("model", "even", LORA + ["--compute", "bf16"], 4),
    "LoRA on NF4": ("folder", "even", LORA + ["--quant", "nf4"], 3),
    "LoRA, --memory 330M": ("model", "even", LORA + ["--memory", "330M"], 3),
    "LoRA, --memory 260M": ("model", "mixed", LORA + ["--memory", "260M"], 0),
    "DoRA": ("folder", "even", ["--method", "dora"], 3),
    "full": ("folder", "even", ["--method", "full", "--lr", "1e-5"], 2),
    "full, short": ("folder", "brief", ["--method", "full", "--lr", "1e-5"], 4),
    "last 4 layers": ("folder", "few", LAST, 9),
    "last 4 layers, one epoch": ("folder", "even", LAST + ["--epochs", "1"], 0),
    "biases of MiniLM": ("minilm", "reviews", ["--method", "bitfit", "--batch", "16"], 8),
    "head on MiniLM, 1 epoch": ("minilm", "reviews", ["--method", "head", "--batch", "32",
                                                      "--epochs", "1"], 0),
    "head on MiniLM, 20 epochs": ("minilm", "reviews", ["--method", "head", "--batch", "32",
                                                        "--epochs", "20"], 0),
    "LoRA on MiniLM, classes": ("minilm", "reviews", ["--method", "lora", "--batch", "16"], 16),
    "full on MiniLM, classes": ("minilm", "reviews", ["--method", "full", "--batch", "16"], 8),
    "LoRA on MiniLM, pairs": ("minilm", "pairs", ["--method", "lora", "--batch", "32"], 8),
    "T5 of 4 + 4 layers, LoRA": ("t5", "sources", ["--method", "lora", "--batch", "8"], 20),
    "T5 of 4 + 4 layers, full": ("t5", "sources", ["--method", "full", "--batch", "8"], 20),
    "ViT of 4 layers, LoRA": ("vit", "pictures", ["--method", "lora", "--batch", "16"], 20),
    "ViT of 4 layers, head": ("vit", "pictures", ["--method", "head", "--batch", "16", "--epochs",
                                                  "20"], 0),
}

# Sizes of a small model's tensors, and of the ones that are made of them.
GROWN = {
    "t5": {"sizes": {32: 256, 36: 256, 48: 1024, 96: 2048, 3: 4}, "layers": 4,
           "config": {"d_model": 256, "d_ff": 1024, "d_kv": 64, "num_heads": 4, "vocab_size": 2048,
                      "num_layers": 4, "num_decoder_layers": 4}},
    "vit": {"sizes": {32: 256, 48: 1024, 17: 65}, "layers": 4,
            "config": {"hidden_size": 256, "intermediate_size": 1024, "image_size": 32,
                       "num_hidden_layers": 4, "pooler_output_size": 256}}}


def read_safetensors(path):
    with open(path, "rb") as f:
        n, = struct.unpack("<Q", f.read(8))
        return {k: v["shape"] for k, v in json.loads(f.read(n)).items() if k != "__metadata__"}


def grow(name, out):
    """A random model with the tensors of tests/golden/tiny/NAME, of other sizes."""
    like, small = GROWN[name], "tests/golden/tiny/" + name
    tensors = {}
    for key, shape in read_safetensors(small + "/model.safetensors").items():
        shape = [like["sizes"].get(n, n) for n in shape]
        layer = re.search(r"(?:block|encoder\.layer)\.(\d)\.", key)
        tensors[key] = shape
        for i in range(like["layers"] if layer and "relative" not in key else 0):
            tensors[key[:layer.start(1)] + str(i) + key[layer.end(1):]] = shape
    os.makedirs(out)
    head, at, draw = {}, 0, random.Random(3)
    for key, shape in tensors.items():
        n = 4
        for size in shape:
            n *= size
        head[key] = {"dtype": "F32", "shape": shape, "data_offsets": [at, at + n]}
        at += n
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % 8)
    some = struct.pack("<4096f", *(draw.gauss(0, 0.03) for _ in range(4096)))
    with open(out + "/model.safetensors", "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        f.write((some * (at // len(some) + 1))[:at])
    with open(small + "/config.json") as f:
        config = dict(json.load(f), **like["config"])
    with open(out + "/config.json", "w") as f:
        json.dump(config, f)


def write_lines(path, rows):
    with open(path, "w", encoding="utf-8") as f:
        f.writelines(json.dumps(row) + "\n" for row in rows)


def write_reviews(env):
    """The lines of bench/prefix.py's head, and pairs of neighbouring words."""
    texts = []
    with open(env.reviews, encoding="utf-8", errors="replace") as f:
        for line in f:
            parts = line.rstrip("\n").split("\t")
            if len(parts) == 3:
                texts.append((parts[2].strip(), "good" if float(parts[1]) > 0 else "bad"))
    write_lines(env.path("plan-reviews.jsonl"), ({"text": t, "label": l} for t, l in texts[:512]))
    write_lines(env.path("plan-pairs.jsonl"),
                ({"anchor": a, "positive": b} for (a, _), (b, _) in zip(texts[:256], texts[256:])))


def write_sources(path):
    draw = random.Random(7)
    write_lines(path, ({"input_ids": [draw.randrange(12, 90) for _ in range(draw.randrange(20, 90))],
                        "labels": [draw.randrange(12, 90) for _ in range(draw.randrange(8, 30))]}
                       for _ in range(400)))


def write_pictures(folder):
    names = [n + ".png" for n in ("a0", "a1", "c0", "c1")]
    os.makedirs(folder)
    for k in range(400):
        place = os.path.join(folder, "LABEL_%d" % (k % 4))
        os.makedirs(place, exist_ok=True)
        shutil.copy("tests/golden/tiny/vit/" + names[k % 4], "%s/%d.png" % (place, k))


def prepare(env):
    """Rows and models, once; their paths."""
    places = {n: env.path("plan-%s.jsonl" % n) for n in (
        "even", "mixed", "masked", "long", "few", "brief", "reviews", "pairs", "sources")}
    places.update(folder=env.folder, model=env.model, minilm=env.minilm,
                  pictures=env.path("plan-pictures"), t5=env.path("plan-t5"),
                  vit=env.path("plan-vit"))
    rows = {"even": ([256] * 24, 0), "mixed": (data.short_lengths(20, 90), 0),
            "masked": ([256] * 24, 0.5), "long": ([1024] * 4, 0), "few": ([256] * 12, 0),
            "brief": ([24] * 16, 0)}
    for name, (lengths, masked) in rows.items():
        data.write_rows(places[name], env.ids, lengths, masked)
    write_reviews(env)
    write_sources(places["sources"])
    if not os.path.exists(places["pictures"]):
        write_pictures(places["pictures"])
    for name in GROWN:
        if not os.path.exists(places[name]):
            grow(name, places[name])
    return places


# A process begins with the peak of the one that started it, so a small one starts it.
STARTER = ("import json, resource as r, subprocess as s, sys\n"
           "code = s.run(sys.argv[1:]).returncode\n"
           "print(json.dumps({'peak': r.getrusage(r.RUSAGE_CHILDREN).ru_maxrss}))\n"
           "sys.exit(code)")


def lines(command):
    """The rows of JSON that a command prints, and the most that was resident."""
    done = subprocess.run([sys.executable, "-S", "-c", STARTER, *command], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE)
    if done.returncode:
        raise Failed("%s\n%s" % (" ".join(command), done.stderr.decode(errors="replace")))
    *rows, last = [json.loads(line) for line in done.stdout.decode().splitlines()]
    return rows, last["peak"] * UNIT


def words(env, places, case):
    """The command line of a case, for `peft plan` and `peft train`."""
    model, rows, options, steps = case
    # OpenBLAS, which is hardly needed, keeps a core busy for a tenth of a second once loaded.
    return [places.get(model, model), "--data", places[rows], "--threads", str(env.threads),
            "--blas", "none", "--seed", "1", "--probe", "none", "--json", *options,
            *(["--steps", str(steps)] if steps else [])]


def once(env, places, case, *more):
    """Of one run: what was said, and what was."""
    command = [*words(env, places, case), *more]
    (plan,), _ = lines([env.peft, "plan"] + command)
    made, most = lines([env.peft, "train"] + command + ["--out", env.path("plan-run"),
                                                        "--overwrite"])
    seconds = seen = 0
    made = [row for row in made if row.get("tokens_per_second")]
    for row in made:
        seconds += (row["num_input_tokens_seen"] - seen) / row["tokens_per_second"]
        seen = row["num_input_tokens_seen"]
    return {"predicted_seconds": plan["seconds"], "taken_seconds": seconds,
            "over": plan["seconds"] / seconds, "predicted_peak_bytes": plan["peak_bytes"],
            "steps_bytes": max(row["rss_bytes"] for row in made), "peak_bytes": most,
            "losses": [row["loss"] for row in made], "choice": plan.get("choice", "")}


def measure(env, places, case, rounds, *more):
    """Of equal runs the median seconds, the most memory, and how far apart they were."""
    runs = [once(env, places, case, *more) for _ in range(rounds)]
    said, taken = ([r[k] for r in runs] for k in ("predicted_seconds", "taken_seconds"))
    result = dict(runs[0], predicted_seconds=statistics.median(said),
                  taken_seconds=statistics.median(taken),
                  predicted_peak_bytes=min(r["predicted_peak_bytes"] for r in runs),
                  **{k: max(r[k] for r in runs) for k in ("steps_bytes", "peak_bytes")})
    result["over"] = result["predicted_seconds"] / result["taken_seconds"]
    if rounds > 1:
        result["apart"] = max(taken) / min(taken)
    return result


def tell(name, r):
    print("  %-36s %8.3f s said, %8.3f s taken: %.2f   %4.0f MB said, %4.0f taken  %s" % (
        name, r["predicted_seconds"], r["taken_seconds"], r["over"],
        r["predicted_peak_bytes"] / 1e6, r["peak_bytes"] / 1e6, r["choice"]),
        file=sys.stderr, flush=True)


def compare(env):
    places, results = prepare(env), {}
    for name, case in CASES.items():
        if env.wants(name):
            r = results[name] = measure(env, places, case, ROUNDS)
            r["peak_bytes"] = r.pop("steps_bytes")      # what is written at the end is beside it
            tell(name, r)
    return results
