"""Runs the rows of rows.py, keeps their figures in OUT/result.json, and prints them.

Rows that are not run now keep the figures that they had there, and so do the cases of a row
of which only some are run, as in --only plan/MiniLM.  A row that fails says so and leaves the
others alone.  --show only prints; --write puts the tables into docs/performance.md.
"""
import argparse
import contextlib
import io
import json
import os
import platform
import subprocess
import sys
import time
import traceback

import data
from contender import Failed
from rows import ALPHA, RANK, ROWS


class Env:
    """What rows need: programs, models, one adapter for all, and the tokens."""

    def __init__(self, args):
        self.build, self.out, self.threads, self.steps = (args.build, args.out, args.threads,
                                                          args.steps)
        self.peft, self.model, self.python, self.llama = (os.path.join(args.build, "peft"),
                                                          args.model, args.python, args.llama)
        self.megabytes = args.megabytes
        self.cases = []                      # of the row at work; none = all
        with open("/proc/cpuinfo") as f:
            flags = f.read()
        # Elsewhere bfloat16 is slower, not faster.
        self.half = "amx_bf16" in flags or "avx512_bf16" in flags
        self.minilm, self.reviews = "build/models/minilm", "build/models/reviews.txt"
        self.folder, self.q4_k, self.adapter = (self.path(x) for x in (
            "model-f32", "model-q4_k.gguf", "adapter0"))
        os.makedirs(self.out, exist_ok=True)
        self.ids = data.tokens(self.peft, self.model)
        if not os.path.exists(self.folder):
            self.shell(self.peft, "convert", self.model, "--out", self.folder, "--dtype", "f32")
        if not os.path.exists(self.q4_k):
            self.shell(self.peft, "convert", self.folder, "--out", self.q4_k, "--dtype", "q4_k")
        if not os.path.exists(self.adapter):
            self.make_adapter()

    def make_adapter(self):
        if self.python:
            self.shell(self.python, "bench/peer.py", self.folder, "--make-adapter", self.adapter,
                       str(RANK), str(ALPHA))
            return
        rows = data.write_rows(self.path("one.jsonl"), self.ids, [8])
        self.shell(self.peft, "train", self.model, "--data", rows, "--steps", "1", "--lr", "1e-9",
                   "--rank", str(RANK), "--alpha", str(ALPHA), "--no-rslora", "--overwrite",
                   "--out", self.adapter)

    def path(self, name):
        return os.path.join(self.out, name)

    def program(self, name):
        return os.path.join(self.build, name)

    def shell(self, *command, library=None):
        env = dict(os.environ, **({"LIBPEFT_LIBRARY": library} if library else {}))
        done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=env)
        if done.returncode:
            raise Failed("%s\n%s" % (" ".join(command),
                                     done.stderr.decode(errors="replace")[-2000:]))

    def wants(self, case):
        return not self.cases or any(c in case for c in self.cases)

    def machine(self):
        out = subprocess.run([self.peft, "doctor", "--json"], stdout=subprocess.PIPE, check=True)
        doctor = json.loads(out.stdout)
        found = {k: v for k, v in doctor.items() if isinstance(v, (str, int, float))}
        found.update(threads=self.threads, system=platform.platform(), peers=self.versions())
        return found

    def versions(self):
        code = ("import json, importlib.metadata as m\n"
                "print(json.dumps({p: m.version(p) for p in ('torch', 'transformers', 'peft',"
                " 'tokenizers')}))")
        if not self.python:
            return {}
        out = subprocess.run([self.python, "-c", code], stdout=subprocess.PIPE)
        return json.loads(out.stdout or b"{}")


def judge(row, results):
    """Each claim's value and verdict; a side whose loss is wrong makes them all fail."""
    failed = [r["failed"] for r in results.values() if isinstance(r, dict) and "failed" in r]
    verdicts = []
    for claim in row.claims:
        try:
            value = claim.of(results)
        except KeyError:
            value = None
        verdict = ("failed: " + failed[0] if failed else "no peer" if value is None else
                   "yes" if claim.holds(value) else "no")
        verdicts.append({"claim": claim.text, "value": value, "sign": claim.sign,
                         "aim": claim.aim, "unit": claim.unit, "met": verdict})
    return verdicts


def commit():
    git = subprocess.run(["git", "describe", "--always", "--dirty"], stdout=subprocess.PIPE)
    return git.stdout.decode().strip()


def run_row(row, env, before):
    """`before`: results of cases that are not run now."""
    print("%s: %s" % (row.name, row.title), file=sys.stderr, flush=True)
    began = time.time()
    try:
        results = dict(before, **row.run(env))
        claims = judge(row, results)
    except Exception as e:
        if not isinstance(e, Failed):
            traceback.print_exc()
        results = before
        claims = [{"claim": c.text, "value": None, "sign": c.sign, "aim": c.aim, "unit": c.unit,
                   "met": "failed: " + (str(e).splitlines() or [""])[0]} for c in row.claims]
        print(e, file=sys.stderr)
    return {"title": row.title, "results": results, "claims": claims,
            "commit": commit(), "seconds": time.time() - began,
            "at": time.strftime("%Y-%m-%d %H:%M")}


# -------------------------------------------------------------------- output

def table(head, rows, markdown):
    rows = [[str(c) for c in r] for r in rows]
    if markdown:
        for r in [head, ["---"] * len(head)] + rows:
            print("| " + " | ".join(r) + " |")
        print()
        return
    widths = [max(len(r[i]) for r in [head] + rows) for i in range(len(head))]
    for r in [head, ["-" * w for w in widths]] + rows:
        print("  ".join(c.ljust(w) for c, w in zip(r, widths)).rstrip())
    print()


def number(value, unit):
    if value is None:
        return ""
    shape = "%.0f" if abs(value) >= 100 else "%.1e" if 0 < abs(value) < 0.005 else "%.2f"
    return shape % value + (" " + unit if unit else "")


def show_claims(found, markdown):
    rows = []
    for name, row in found["rows"].items():
        for i, c in enumerate(row["claims"]):
            rows.append([name if i == 0 else "", row["title"] if i == 0 else "", c["claim"],
                         number(c["value"], c["unit"]),
                         "%s %s" % (c["sign"], number(c["aim"], c["unit"])), c["met"]])
    table(["row", "work", "figure", "measured", "aim", "met"], rows, markdown)


MARK, END = "<!-- bench/bench.py: results -->", "<!-- end -->"

# Of a contender: the heading, and how its figure is shown.
COLUMNS = [("limit_bytes", "limit MB", "%.0f", 1e-6), ("texts_per_second", "texts/s", "%.0f", 1),
           ("tokens_per_second", "tokens/s", "%.0f", 1), ("best", "best", "%.0f", 1),
           ("prompt_tokens_per_second", "prompt tokens/s", "%.0f", 1),
           ("first_epoch_seconds", "epoch 1 s", "%.3f", 1),
           ("later_epoch_seconds", "later epochs s", "%.4f", 1),
           ("predicted_seconds", "said s", "%.3f", 1), ("taken_seconds", "taken s", "%.3f", 1),
           ("over", "said / taken", "%.2f", 1), ("apart", "runs apart", "%.2f", 1),
           ("predicted_peak_bytes", "said MB", "%.0f", 1e-6),
           ("peak_bytes", "peak MB", "%.0f", 1e-6),
           ("activation_bytes", "activations MB", "%.1f", 1e-6),
           ("first_step", "first step s", "%.2f", 1),
           ("loss_difference", "loss differs", "%.1e", 1),
           ("vector_difference", "1 - cosine", "%.1e", 1),
           ("megabytes_per_second", "MB/s", "%.1f", 1), ("ratio", "ratio", "%.2f", 1)]


def show_results(found, markdown):
    for name, row in found["rows"].items():
        sides = {n: r for n, r in row["results"].items() if n != "roofline"}
        columns = [c for c in COLUMNS if any(c[0] in r for r in sides.values())]
        print(("### %s\n" if markdown else "%s") % row["title"])
        if not columns:
            for n, r in sides.items():
                print("%s: %s\n" % (n, ", ".join("%s %g" % x for x in r.items())))
            continue
        table([""] + [c[1] for c in columns],
              [[n] + [c[2] % (r[c[0]] * c[3]) if r.get(c[0]) is not None else "" for c in columns]
               for n, r in sides.items()], markdown)


def commits(found):
    """That of all rows, or which rows are of which."""
    of = {}
    for name, row in found["rows"].items():
        of.setdefault(row.get("commit", "unknown"), []).append(name)
    return ", ".join(c if len(of) == 1 else "%s (%s)" % (c, ", ".join(names))
                     for c, names in of.items())


def show(found, markdown):
    m = found["machine"]
    print("%s, %s threads, %s kernels, %s; %s; commit %s" % (
        m.get("cpu"), m["threads"], m.get("level"), m.get("blas"),
        ", ".join("%s %s" % x for x in m["peers"].items()) or "no peer", commits(found)))
    print()
    for part in (show_claims, show_results) if markdown else (show_results, show_claims):
        part(found, markdown)


def write(found, path):
    """Puts the tables between their marks in a text."""
    with open(path, encoding="utf-8") as f:
        before, rest = f.read().split(MARK + "\n", 1)
    tables = io.StringIO()
    with contextlib.redirect_stdout(tables):
        show(found, True)
    with open(path, "w", encoding="utf-8") as f:
        f.write(before + MARK + "\n" + tables.getvalue().rstrip() + "\n" + END +
                rest.split(END, 1)[1])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", default="build/bench")
    parser.add_argument("--show", action="store_true")
    for name in ("build", "model", "python", "llama", "only", "write"):
        parser.add_argument("--" + name, default="")
    for name, default in (("threads", 1), ("steps", 4), ("megabytes", 20)):
        parser.add_argument("--" + name, type=int, default=default)
    args = parser.parse_args()
    path, found = os.path.join(args.out, "result.json"), {"rows": {}}
    if os.path.exists(path):
        with open(path) as f:
            found = json.load(f)
    if args.write:
        return write(found, args.write)
    if args.show:
        return show(found, False)
    cases = {row.name: [] for row in ROWS} if not args.only else {}
    for name in filter(None, args.only.split(",")):
        row, _, case = name.partition("/")
        cases.setdefault(row, []).extend([case] if case else [])
    unknown = set(cases) - {row.name for row in ROWS}
    if unknown:
        sys.exit("bench: no row %s, expected %s" % (", ".join(sorted(unknown)),
                                                    ", ".join(row.name for row in ROWS)))
    env = Env(args)
    found["machine"] = env.machine()
    for row in ROWS:
        if row.name in cases:
            env.cases = cases[row.name]
            before = found["rows"].get(row.name, {}).get("results", {})
            before = {name: r for name, r in before.items() if not env.wants(name)}
            found["rows"][row.name] = run_row(row, env, before)
            order = {r.name: i for i, r in enumerate(ROWS)}
            found["rows"] = dict(sorted(found["rows"].items(), key=lambda x: order.get(x[0], 99)))
            with open(path, "w") as f:
                json.dump(found, f, indent=1)
    show(found, False)
    print("All figures: " + path)


main()
