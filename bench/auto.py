"""--auto against the best of a grid of 12 points, on three data sets.

    python3 bench/auto.py --peft build/release/peft --minilm FOLDER --smollm FILE --packages FOLDER

PACKAGES holds the unpacked packages vaderSentiment 3.3.2 (its sdist; texts with 20 people's
ratings) and chatterbot-corpus 1.3.3; where they are not there, pip fetches them.  Runs lie in
--out and are not made twice.  Prints a table for docs/judgement.md: figures of the test rows,
which neither the grid's points nor --auto have seen."""
import argparse
import glob
import json
import os
import random
import subprocess
import sys
import tarfile
import zipfile

WANTED = {"vaderSentiment": ("vaderSentiment==3.3.2", ["--no-binary", ":all:"]),
          "chatterbot_corpus": ("chatterbot-corpus==1.3.3", [])}


def package(folder, name):
    path = os.path.join(folder, name)
    if os.path.isdir(path):
        return path
    what, options = WANTED[name]
    subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest",
                    path + ".part", *options, what], check=True)
    file, = glob.glob(path + ".part/*")
    os.makedirs(path)
    if file.endswith(".whl"):
        zipfile.ZipFile(file).extractall(path)
    else:
        tarfile.open(file).extractall(path, filter="data")
    return path


def headlines(folder):
    """Tweets and snippets of film reviews: negative, neutral, positive."""
    archive, = glob.glob(package(folder, "vaderSentiment") +
                         "/*/additional_resources/hutto_ICWSM_2014.tar.gz")
    rows = []
    with tarfile.open(archive) as tar:
        for name in ("tweets", "movieReviewSnippets"):
            text = tar.extractfile("hutto_ICWSM_2014/%s_GroundTruth.txt" % name).read()
            for line in text.decode("utf8", "replace").splitlines():
                part = line.split("\t")
                if len(part) > 2:
                    mean = float(part[1])
                    label = "positive" if mean >= 0.5 else "negative" if mean <= -0.5 else "neutral"
                    rows.append({"text": part[2].strip(), "label": label})
    return rows, 1000, 1000


def topics(folder):
    """What a short question is about: the file of chatterbot-corpus that it is from."""
    rows = []
    for file in sorted(glob.glob(package(folder, "chatterbot_corpus") +
                                 "/chatterbot_corpus/data/english/*.yml")):
        for line in open(file, encoding="utf8"):
            if line.startswith("- - "):
                rows.append({"text": line[4:].strip(" '\"\n"),
                             "label": os.path.basename(file)[:-4]})
    return [r for r in rows if r["text"]], 400, 300


def support(_):
    """Answers of a support desk (examples/data), by a language model: loss."""
    here = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "examples", "data")
    rows = [json.loads(line) for name in ("support.jsonl", "support_eval.jsonl")
            for line in open(os.path.join(here, name), encoding="utf8")]
    return rows, 120, 80


def write(path, rows):
    with open(path, "w", encoding="utf8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def make(folder, out, name):
    rows, train, test = SETS[name][0](folder)
    seen, unique = set(), []
    for row in rows:
        key = " ".join((row.get("text") or json.dumps(row)).lower().split())
        if key not in seen:
            seen.add(key)
            unique.append(row)
    random.Random(1).shuffle(unique)
    label = [r.get("label") for r in unique]
    unique = [r for r in unique if label.count(r.get("label")) >= 12]
    write(os.path.join(out, name + ".jsonl"), unique[:train])
    write(os.path.join(out, name + "_test.jsonl"), unique[train:train + test])


CLASSES = [(["--method", "head"], (1e-3, 3e-3, 1e-2)),
           (["--method", "lora", "--rank", "8"], (2e-4, 1e-3, 5e-3)),
           (["--method", "last", "--last", "2"], (5e-5, 2e-4, 1e-3)),
           (["--method", "full"], (2e-5, 1e-4, 5e-4))]
WORDS = [(["--method", "lora", "--rank", rank], (2e-4, 5e-4, 1e-3, 2e-3))
         for rank in ("4", "8", "16")]
SETS = {"headlines": (headlines, "minilm", CLASSES, "accuracy", ["--epochs", "4", "--batch", "16"]),
        "topics": (topics, "minilm", CLASSES, "accuracy", ["--epochs", "8", "--batch", "16"]),
        "support": (support, "smollm", WORDS, "loss", ["--epochs", "3", "--batch", "4"])}


def run(a, name, key, options):
    """Figures of the test rows after one training."""
    out = os.path.join(a.out, name + "-" + key)
    result = out + ".json"
    if os.path.exists(result):
        return json.load(open(result))
    model = getattr(a, SETS[name][1])
    data = os.path.join(a.out, name)
    common = ["--compute", a.compute]
    subprocess.run([a.peft, "train", model, "--data", data + ".jsonl", "--out", out, "--overwrite",
                    "--quiet", *common, *options], check=True)
    whole = os.path.exists(out + "/config.json")
    said = subprocess.run([a.peft, "eval", out if whole else model, "--data",
                           data + "_test.jsonl", "--json", *common,
                           *([] if whole else ["--adapter", out])], check=True,
                          capture_output=True, text=True).stdout
    figures = json.loads(said)
    json.dump(figures, open(result, "w"))
    subprocess.run(["rm", "-rf", *glob.glob(out + "/*.safetensors")], check=True)
    return figures


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--peft", default="build/release/peft")
    p.add_argument("--minilm", default="build/models/minilm")
    p.add_argument("--smollm", default="build/models/SmolLM2-135M-Instruct.Q4_1.gguf")
    p.add_argument("--packages", default="build/models/packages")
    p.add_argument("--out", default="build/auto")
    p.add_argument("--compute", default="auto")
    p.add_argument("--only", default="headlines,topics,support")
    a = p.parse_args()
    os.makedirs(a.out, exist_ok=True)
    print("| data | figure | best of 12 | its settings | grid's median | --auto | its settings |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name in a.only.split(","):
        _, _, grid, figure, fixed = SETS[name]
        make(a.packages, a.out, name)
        points = []
        for options, rates in grid:
            for lr in rates:
                key = "-".join(options[1::2] + ["%g" % lr])
                fixed_lr = ["--lr", "%g" % lr, "--schedule", "linear", "--warmup", "0.06"]
                value = run(a, name, key, options + fixed_lr + fixed)[figure]
                points.append((value, key))
                print("#", name, key, value, file=sys.stderr, flush=True)
        points.sort(reverse=figure != "loss")
        value = run(a, name, "auto", [])[figure]
        chose = json.load(open(os.path.join(a.out, name + "-auto", "auto.json")))
        print("| %s | %s | %.4f | %s | %.4f | %.4f | %s |" % (
            name, figure, points[0][0], points[0][1], points[len(points) // 2][0], value,
            " ".join("%s %s" % (k, v["value"]) for k, v in chose["why"].items()
                     if isinstance(v, dict) and k in ("method", "rank", "last", "batch", "lr"))),
            flush=True)


main()
