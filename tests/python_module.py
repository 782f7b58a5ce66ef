"""What tests/python.sh runs: argv[1] is a folder to work in."""
import json
import os
import re
import sys
import traceback

import libpeft
from libpeft import _api, _kit, data, judge

DIR = sys.argv[1]
GOLDEN = "tests/golden/tiny/"
TEXT = "tools/tiny/model"


def write_rows(name, rows):
    path = os.path.join(DIR, name)
    with open(path, "w") as f:
        for row in rows:
            f.write(json.dumps(row) + "\n")
    return path


IDS = write_rows("ids.jsonl", [{"input_ids": [1] + [(a * 7 + k * 3) % 200 + 9 for k in range(6)]}
                               for a in range(20)])
CLASSES = write_rows("classes.jsonl", [{"input_ids": [5, a + 30, a % 2 * 9 + 40, 7],
                                        "label": "c%d" % (a % 2)} for a in range(12)])


def raises(kind, call):
    try:
        call()
    except kind as error:
        assert str(error), "an empty message"
        return error
    raise AssertionError("%s was not raised" % kind.__name__)


def test_structs_are_those_of_c():
    with open(os.path.join(DIR, "sizes.txt")) as f:
        sizes = dict(line.split() for line in f)
    assert sizes
    for name, n in sizes.items():
        struct, _, field = name.partition(".")
        kind = _api.STRUCTS.get(struct) or _kit.STRUCTS[struct]
        have = getattr(kind, field).offset if field else _api.ctypes.sizeof(kind)
        assert have == int(n), name


def test_the_kit_is_whole():
    for header in ("peft_data.h", "peft_judge.h"):
        with open("include/" + header) as f:
            text = re.sub(r"/\*.*?\*/", "", f.read(), flags=re.S)
        functions = re.findall(r"PEFT_API[^(;]*?(\w+)\(", text)
        structs = re.findall(r"typedef struct (\w+) \{", text)
        assert functions and structs
        bound = {line.split()[0] for line in _kit._FUNCTIONS.split("\n") if line}
        assert set(functions) <= bound, set(functions) - bound
        assert set(structs) <= set(_kit.STRUCTS), set(structs) - set(_kit.STRUCTS)


TEXTS = write_rows("texts.jsonl", [{"text": "row %d is %s" % (i, "so good" * (i % 2)),
                                    "label": "ab"[i % 3 == 0]} for i in range(30)])


def test_inspect_and_split():
    with open(TEXTS, "a") as f:
        f.write('{"text": broken}\n')
    seen = data.inspect(TEXTS, threads=1, seed=3)
    assert seen["summary"]["rows"] == 30 and seen["summary"]["schema"] == "text-label"
    assert [(r["label"], r["rows"]) for r in seen["labels"]] == [("a", 20), ("b", 10)]
    assert seen["broken"][0]["line"] == 31 and len(seen["examples"]) == 5
    assert data.inspect(TEXTS, columns={"text": "label", "words": "text"}, limit=4)["lengths"]
    done = []
    data.inspect(TEXTS, progress=lambda at, of: done.append((at, of)))
    assert done and done[-1][0] <= done[-1][1]

    def stop(at, of):
        raise KeyError("stop")
    raises(KeyError, lambda: data.inspect(TEXTS, progress=stop))
    raises(libpeft.Cancelled, lambda: data.inspect(TEXTS, progress=lambda at, of: True))
    raises(libpeft.NotFound, lambda: data.inspect("missing.jsonl"))
    raises(TypeError, lambda: data.inspect(TEXTS, lines=3))
    spaced = write_rows("spaced.jsonl", [{"text": "a  b ", "label": "x"}, {"text": "c"}])
    told = data.normalize(spaced, os.path.join(DIR, "one.jsonl"))
    assert told["summary"]["changed"] == 1 and told["examples"][0]["after"] == "a b"
    assert data.normalize(spaced)["rules"]
    told = data.clean(TEXTS, os.path.join(DIR, "clean.jsonl"), against=spaced, actions="near=off")
    assert told["summary"]["kept"] == 30 and told["summary"]["dropped"] == 1
    assert {r["rule"]: r["rows"] for r in told["rules"]}["broken"] == 1
    out = os.path.join(DIR, "parts")
    raises(libpeft.FormatError, lambda: data.split(TEXTS, out))
    sides = data.split(TEXTS, out, ratio=(2, 1), stratify="label", limit=30)
    more = data.augment(out + "/train.jsonl", out + "/more.jsonl", methods="swap,noise", copies=2,
                        eval=out + "/valid.jsonl")
    assert more.added > 10 and more.added == sum(more.by_method.values()), more
    with open(out + "/faq.md", "w") as f:
        f.write("Q: Why?\nA: So.\n")
    asked = data.convert(out + "/faq.md", out + "/chats.jsonl", "messages")
    assert asked.rows == 1 and getattr(asked, "from") == "text", asked
    back = data.convert(out + "/chats.jsonl", out + "/pairs.jsonl", "alpaca", from_="messages")
    assert back.rows == 1 and not back.kept, back
    assert sides.rows == {"train": 20, "valid": 10, "test": 0}
    assert sides.classes["b"]["train"] + sides.classes["b"]["valid"] == 10
    assert data.inspect(os.path.join(out, "train.jsonl"))["summary"]["rows"] == 20


def test_convert_and_augment():
    tasks = write_rows("tasks.jsonl", [{"instruction": "add %d and %d" % (i, i), "output": "%d" %
                                        (2 * i)} for i in range(12)])
    turns, back = os.path.join(DIR, "turns.jsonl"), os.path.join(DIR, "back.jsonl")
    done = data.convert(tasks, turns, "messages")
    assert (done.read, done.rows) == (12, 12) and done.__dict__["from"] == "alpaca"
    assert data.inspect(turns)["summary"]["schema"] == "messages"
    data.convert(turns, back, "alpaca", from_="messages")
    with open(tasks) as a, open(back) as b:
        assert [json.loads(line) for line in a] == [json.loads(line) for line in b]
    grown = os.path.join(DIR, "grown.jsonl")
    made = data.augment(TEXTS, grown, methods="swap", copies=2, seed=1, limit=30)
    assert made.rows == 30 and made.added == made.by_method["swap"] <= 60
    assert data.inspect(grown)["summary"]["rows"] == 30 + made.added


def test_labels():
    both = []
    for name, every in (("one", 3), ("two", 4)):
        both.append(write_rows(name + ".jsonl", [{"text": "row %d" % i, "label": "ab"[i % every == 0]}
                                                 for i in range(24)]))
    found = data.agree(both)
    assert found.rows == found.all == 24 and len(found.differ) == 24 - found.same
    assert found.pairs[0].labels == ["a", "b"] and sum(map(sum, found.pairs[0].confusion)) == 24
    checks, order = data.label_faults([[0.9, 0.1]] * 5 + [[0.1, 0.9]] * 5, [0] * 5 + [1] * 4 + [0])
    assert order[0] == 9 and checks[9].likely == 1 and checks[9].flagged == 1
    done = os.path.join(DIR, "labelled.jsonl")
    with data.Labeller(both[0], done, labels=["x", "y"], by="me") as session:
        assert session.labels == ["x", "y"] and session.row().given == "b"
        session.give("x")
        session.skip()
        session.give("y")
        assert session.undo() and session.row().labelled == 1
        raises(libpeft.ArgumentError, lambda: session.give("z"))
    with data.Labeller(both[0], done, labels=["x", "y"]) as session:
        assert len([session.give("y") for row in session]) == 23


def test_label_faults_of_a_model():
    path = write_rows("faulty.jsonl", [{"text": "good %d" % i if i % 2 else "bad %d" % i,
                                        "label": "ab"[i % 2 ^ (i == 7)]} for i in range(40)])
    if not os.path.exists(TEXT):
        return
    with libpeft.Model(TEXT) as model:
        found = data.faults(path, model, seed=1)
        assert found.rows == 40 and found.labels == 2 and len(found.faults) == found.suspects
        assert data.inspect(path, model, max_len=2)["summary"]["longer"] > 0


def test_logprob():
    with libpeft.Model(GOLDEN + "llama") as model:
        whole, right = model.logprob([5, 9, 30, 7], 2)
        parts = model.logprob_next([5, 9], [30])[0] + model.logprob_next([5, 9, 30], [7, 8])[0]
        assert abs(whole - parts) < 1e-4 and 0 <= right <= 2


def test_judge():
    scores = judge.score(["a b c", "x"], ["a b d", "x"], other=["a b d", "x"])
    assert scores["rougeL"].value < scores["rougeL"].other == 1
    assert abs(judge.calibration_error([0.9, 0.9, 0.5], [1, 0, 1]) - 1.3 / 3) < 1e-12
    with libpeft.Model(GOLDEN + "llama") as model:
        rows = model.dataset(IDS)
        seen = judge.check(model, rows, eval=rows)
        assert seen.refuses and "leak" in [f.name for f in seen.flaws]
        assert judge.marked(model, rows, 0).count("[") == 1
        train, held = judge.aside(model, rows, share=0.2)
        assert len(train) + len(held) == len(rows)
        assert judge.aside(model, held)[1] is None
        told = []
        choice = judge.choose(model, train, held, method="lora", rank=2, range_steps=4,
                              progress=lambda *what: told.append(what))
        assert choice.method == "lora" and choice.rank == 2 and choice.chosen and told
        judge.apply(model, choice)
        options = choice.train_options()
        options["epochs"] = 2
        trainer = model.trainer(train, **options)
        assert judge.cost(model, train, trainer, price=1).price > 0
        watch = judge.Watch(model, patience=1)
        watch.evaluate(0, model.evaluate(held))
        for step in trainer:
            watch.step(step)
        watch.evaluate(step.step, model.evaluate(held))
        assert watch.info.steps == step.step and watch.info.evaluations == 2
        bad = [n.kind for i in range(20) for n in watch.step(type(step)(**{
            **vars(step), "step": step.step + 1 + i, "loss": float("nan")}))]
        assert bad == ["nonfinite"]
        watch.close()
        trainer.close()
        board = judge.Board(IDS, samples=50)
        a = board.run(model, "tuned")
        model.disable_adapter()
        b = board.run(model, "base")
        assert (a.number, b.number, a.rows) == (0, 1, 20) and "perplexity" in board.figures(0)
        assert board.versus(0, 1, "perplexity").words and len(board.rows(1)) == 20
        board.close()
    assert judge.falls("loss") and not judge.falls("accuracy")


def test_tune_and_drift():
    folder, trials = os.path.join(DIR, "search"), []
    with libpeft.Model(GOLDEN + "llama") as model, libpeft.Model(GOLDEN + "llama") as base:
        rows = model.dataset(IDS)
        train, held = judge.aside(model, rows, share=0.2)
        best = judge.tune(model, train, held, folder, search="lr=1e-3..1e-2,rank=2|4", trials=3,
                          train={"epochs": 1}, on_trial=trials.append)
        assert best.runs == len(trials) and set(best.best.settings) == {"lr", "rank"}
        assert os.path.exists(os.path.join(folder, "best", "adapter_model.safetensors"))
        raises(libpeft.Cancelled, lambda: judge.tune(model, train, held, folder + "2", trials=2,
                                                     on_trial=lambda trial: True))
        model.load_adapter(os.path.join(folder, "best"))
        held = judge.hold(model, base, judge.probe(base, IDS), 1e-6)
        assert held.kl <= 1e-6 <= held.before and 0 <= held.weight < 1
    assert judge.calibration_error([0.9, 0.9], [True, True]) - 0.1 < 1e-9
    raises(libpeft.PeftError, lambda: judge.calibration_error([2.0], [True]))
    paper = os.path.join(DIR, "receipt.json")
    judge.write_receipt(paper, folder, {"data": IDS}, ["peft", "tune"], {"loss": 1.5},
                        ["trials.jsonl"])
    read = judge.read_receipt(paper)
    assert read.words == ["peft", "tune"] and read.results == {"loss": 1.5}
    assert (read.inputs[0].hash, read.inputs[0].bytes) == judge.hash_path(IDS)
    assert read.files[0].path == "trials.jsonl" and read.version


def test_train_save_load():
    out = os.path.join(DIR, "adapter")
    with libpeft.Model(GOLDEN + "llama") as model:
        assert model.info.family == "llama" and not model.info.has_tokenizer
        model.add_adapter(rank=4, rslora=False, seed=3)
        data = model.dataset(IDS)
        test = data.split(0.2, seed=1)
        assert len(data) == 16 and len(test) == 4
        assert len(data.subset([3, 3, 0])) == 3
        assert data.row(0).ids[0] == 1 and data.row(0).labels[0] == -100
        before = model.evaluate(data).loss
        trainer = model.trainer(data, epochs=5, lr=1e-2)
        plan = trainer.plan
        assert plan.peak > 0 and plan.steps == 20
        trainer.profile()
        steps = list(trainer)
        assert [s.step for s in steps] == list(range(1, 21))
        work = trainer.work()
        assert sum(w.flops for w in work) > 0 and "attention" in [w.name for w in work]
        assert model.peaks().gflops > 0
        after = model.evaluate(data).loss
        assert after < before
        model.save_adapter(out)
    with libpeft.Model(GOLDEN + "llama") as model:
        model.load_adapter(out)
        assert model.evaluate(model.dataset(IDS)).loss < before
        model.merge()
        model.save(os.path.join(DIR, "merged.gguf"))
        names = [p.name for p in model.params()]
        assert len(model.read(names[0])) > 0


def test_resume():
    def make(model):
        model.add_adapter(seed=3)
        return model.trainer(model.dataset(IDS), steps=6, lr=1e-2)
    path = os.path.join(DIR, "checkpoint")
    with libpeft.Model(GOLDEN + "llama") as model:
        trainer = make(model)
        for _ in range(3):
            trainer.step()
        trainer.save(path)
        trainer.keep()
        want = [s.loss for s in trainer]
        trainer.back()
        assert [s.loss for s in trainer] == want
    with libpeft.Model(GOLDEN + "llama", threads=1) as model:
        trainer = make(model)
        trainer.resume(path)
        assert [s.loss for s in trainer] == want
        assert trainer.step() is None


def test_compare_and_quantize():
    path = os.path.join(DIR, "chosen.gguf")
    with libpeft.Model(GOLDEN + "llama") as full, libpeft.Model(GOLDEN + "llama") as model:
        data = full.dataset(IDS)
        same = model.compare(full, data, batch=2)
        assert same.rows == len(data) and same.tokens == 6 * len(data)
        assert abs(same.kl) < 1e-7 and same.same_token == 1 and same.max_logit_diff == 0
        done = model.quantize(data, bits=6.5, batch=4, types="q4_0,q5_0,q8_0,bf16")
        assert done.least <= done.bytes <= 6.5 / 8 * full.info.params
        assert done.bytes == model.info.weight_bytes < full.info.weight_bytes / 4
        assert done.rule in ("gradient", "energy") and 0 < done.kl <= done.least_kl
        model.save(path)
        with libpeft.Model(path) as saved:
            far = saved.compare(full, data)
            assert abs(far.kl - done.kl) < 1e-3 * done.kl + 1e-6
            assert saved.info.types == model.info.types
        raises(libpeft.ArgumentError, lambda: model.compare(model, data))
        raises(libpeft.ArgumentError, lambda: full.quantize(data, bits=1))
        raises(libpeft.ArgumentError, lambda: full.quantize(data, types="q4_0,nonsense"))
    with libpeft.Model(GOLDEN + "bert") as full, libpeft.Model(GOLDEN + "bert") as model:
        data = full.dataset(write_rows("texts.jsonl", [
            {"input_ids": [5, a + 30, 7, 9 + a], "label": a % 2} for a in range(6)]))
        done = model.quantize(data, bits=12, types="nf4,bf16")
        assert abs(1 - model.compare(full, data).cosine - done.kl) < 1e-6
        assert done.perplexity == 0


def test_classes():
    with libpeft.Model(GOLDEN + "llama") as model:
        data = model.dataset(CLASSES)
        model.add_head(data.labels)
        assert model.labels == ["c0", "c1"]
        model.freeze("*")
        model.unfreeze("score.*")
        for _ in model.trainer(data, epochs=3, lr=1e-2):
            pass
        result = model.evaluate(data)
        assert sum(map(sum, result.confusion)) == 12
        each = model.evaluate(data, rows=True).each
        assert [r.row for r in each] == list(range(12))
        assert abs(sum(r.loss for r in each) / 12 - result.loss) < 1e-9
        assert all(abs(sum(r.scores) - 1) < 1e-5 for r in each)
        assert len(model.forward([5, 30, 40, 7])) == 2


def test_pictures():
    vit = GOLDEN + "vit"
    with libpeft.Model(vit) as model:
        assert model.info.image_height == 16 and model.info.channels == 3
        with open(vit + "/a0.png", "rb") as f:
            content = f.read()
        if not content or b"PNG" not in content[:8]:
            return
        try:
            shares = model.classify_image(content)
        except libpeft.Unsupported:  # built without libpng
            return
        assert shares == model.classify_image(vit + "/a0.png")
        assert abs(sum(shares.values()) - 1) < 1e-5 and set(shares) == set(model.labels)
        assert model.pixels(content).shape == (3, 16, 16)
        assert len(model.embed_image(content)) == model.info.embed_dim == 32
        data = model.dataset(vit + "/data.csv")
        with model.trainer(data, epochs=3, lr=1e-3, augment="flip,rotate=5") as trainer:
            assert len(list(trainer)) == 3
        raises(libpeft.ArgumentError, lambda: model.trainer(data, augment="flop"))
        raises(libpeft.FormatError, lambda: model.classify_image(b"no picture"))


def test_forward():
    with libpeft.Model(GOLDEN + "llama") as model:
        logits = model.forward([1, 5, 9])
        assert logits.shape == (3, model.info.vocab)


def test_errors():
    error = raises(libpeft.NotFound, lambda: libpeft.Model("missing.gguf"))
    assert error.code == -6
    raises(TypeError, lambda: libpeft.Model("missing.gguf", thread=2))
    with libpeft.Model(GOLDEN + "llama") as model:
        raises(libpeft.PeftError, lambda: model.tokenize("no tokenizer"))
        raises(libpeft.ArgumentError, lambda: model.add_adapter(rank=-1))
        trainer = model.trainer(model.dataset(IDS), steps=2)
        trainer.cancel()
        raises(libpeft.Cancelled, trainer.step)
    raises(libpeft.StateError, lambda: model.info)


def test_faults():
    if not os.path.exists(TEXT):
        return
    path = write_rows("labels.jsonl", [{"text": "ab" * (i % 3) + "yz" * (2 - i % 3), "label": i % 3}
                                       for i in range(30)] + [{"text": "ababyz", "label": 1}])
    with libpeft.Model(TEXT) as model:
        found = data.faults(path, model, share=0.1, limit=31)
        assert found.rows == 31 and found.labels == 3 and found.suspects == 4
        assert [x.rank for x in found.faults] == [1, 2, 3, 4]
    path = write_rows("lists.jsonl", [{"text": "ab" * (i % 3) + "yz" * (2 - i % 3), "labels":
                                       ["a"] * (i % 3 > 0 and i != 7) + ["y"] * (i % 3 < 2)}
                                      for i in range(60)])
    with libpeft.Model(TEXT) as model:
        found = data.faults(path, model, share=0.1)
        assert found.several == 1 and found.labels == 2 and found.rare == 0
        assert found.faults[0].line == 8 and found.faults[0].missing == ["a"]
        assert found.faults[0].wrong == [] and found.faults[0].likely == "y, a"


def test_text():
    if not os.path.exists(TEXT):
        return
    with libpeft.Model(TEXT) as model:
        ids = model.tokenize("Hello world", special=False)
        assert model.detokenize(ids) == "Hello world"
        text = "<|im_start|>naïve 日本 x"
        ids, spans = model.tokenize(text, offsets=True)
        assert text[slice(*spans[0])] == "<|im_start|>" and text[slice(*spans[-1])] == "x"
        assert spans[-1][1] == len(text) and all(a < b for a, b in spans)
        assert model.tokenize(text.encode(), offsets=True)[1][-1][1] == len(text.encode())
        whole = model.generate("Hello", max_tokens=8)
        for name in ("one", "two"):
            model.add_adapter(name, rank=2)
            model.disable_adapter(name)
        asked = ["Hello", "Hello", "What is it?"]
        assert model.generate_batch(asked, ["one", "", None], max_tokens=8, batch=2)[0] == whole
        rows = model.forward_batch([[5, 6], [7]], ["two", None])
        assert len(rows) == 3 * model.info.vocab
        alone = [x for row in model.forward([5, 6]).tolist() for x in row]
        assert max(abs(a - b) for a, b in zip(rows, alone)) < 1e-4
        assert "".join(model.stream("Hello", max_tokens=8)) == whole
        for piece in model.stream([{"role": "user", "content": "Hello"}], max_tokens=50):
            break
        assert len(model.embed("Hello")) == model.info.dim


def main():
    passed = failed = 0
    for name, test in list(globals().items()):
        if not name.startswith("test_"):
            continue
        try:
            test()
            passed += 1
        except Exception:
            failed += 1
            print("FAILED", name)
            traceback.print_exc(file=sys.stdout)
    print("%d passed, %d failed" % (passed, failed))
    return failed != 0


sys.exit(main())
