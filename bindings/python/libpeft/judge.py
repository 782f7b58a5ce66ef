"""Judgement: settings chosen, runs watched, results compared.

    from libpeft import judge
    train, test = judge.aside(model, rows)
    choice = judge.choose(model, train, test)
    judge.apply(model, choice)

Options have the names of peft_judge.h's struct fields.
"""
import ctypes

from . import _api, _kit, _check, _END, _bytes, _Handle, _options, _record, _texts
from . import Dataset
from ._kit import kit
from .data import _Call, _text


def score(said, wanted, other=None, **options):
    """How near texts are to the wanted ones: by name ("exact_match", "f1", "rouge1", "rouge2",
    "rougeL", "bleu", "chrf") a value with its interval, low to high; with `other`, what a second
    system wrote, also the gain of it and p.  Options: samples, level, seed."""
    call, out = _Call(), _kit.Scores()
    options = dict(options)
    if other:
        options["other"] = call.keep(_texts(other))
    opts = _options(_kit.ScoreOpts, options)
    call.check(kit.peft_score_texts(_texts(said), _texts(wanted), len(said), ctypes.byref(opts),
                                    ctypes.byref(out)))
    return {_text(s.name): _record(s) for s in out.scores[:out.n]}


def calibration_error(confidence, right, bins=0):
    """The expected calibration error: confidence of each classification, and whether it was
    right."""
    n = len(confidence)
    error = kit.peft_calibration_error((ctypes.c_double * n)(*confidence),
                                       (ctypes.c_int32 * n)(*map(bool, right)), n, bins)
    if error < 0:
        _check(-1)
    return error


# ----------------------------------------------------------------- before a training

def check(model, data, eval=None, path=None, **read):
    """What is wrong with a data set before it is trained on: `refuses`, and `flaws`.  `path` and
    the options of Model.dataset(), as it was loaded, find the rows that max_len cuts."""
    call, out = _Call(), _kit.Checked()
    opts = _kit.JudgeOpts(eval=eval._c if eval else None, path=_bytes(path))
    if read:
        opts.read = call.keep(ctypes.pointer(_options(_api.DatasetOpts, read)))
    call.check(kit.peft_judge_check(model._c, data._c, ctypes.byref(opts), ctypes.byref(out)))
    result = _record(out)
    result.flaws = [_record(f) for f in out.flaws[:out.n]]
    for f in result.flaws:
        f.lines, f.others = list(f.lines[:f.n]), list(f.others[:f.n])
    return result


def marked(model, data, i, open="[", close="]"):
    """Row i as text, with marks around what of it trains."""
    arguments = (model._c, data._c, i, _bytes(open), _bytes(close))
    n = _check(kit.peft_judge_row(*arguments, None, 0))
    text = ctypes.create_string_buffer(n + 1)
    _check(kit.peft_judge_row(*arguments, text, n))
    return text.raw[:n].decode("utf-8", "replace")


def cost(model, data, trainer, **options):
    """What a run takes beside memory: steps, tokens, seconds, bytes on disk, price.  Options:
    price (of a token), price_hour."""
    opts, out = _options(_kit.CostOpts, options), _kit.Cost()
    _check(kit.peft_judge_cost(model._c, data._c, trainer._c, ctypes.byref(opts),
                               ctypes.byref(out)))
    return _record(out)


# --------------------------------------------------------- settings by themselves

def aside(model, data, **options):
    """Two data sets of the rows of one: those to train on, and those to judge by (None where
    there are too few).  Options: share, seed."""
    opts = _options(_kit.AsideOpts, options)
    train, held = ctypes.c_void_p(), ctypes.c_void_p()
    _check(kit.peft_judge_aside(model._c, data._c, ctypes.byref(opts), ctypes.byref(train),
                                ctypes.byref(held)))
    return Dataset(train, model), Dataset(held, model) if held else None


class Choice:
    """Settings, with the reason of each in `chosen`, and the runs that were compared in `tried`;
    the fields of peft_choice."""

    def __init__(self, struct):
        self.struct = struct
        self.chosen = [_record(c) for c in struct.chosen[:struct.n]]
        self.tried = [_record(t) for t in struct.tried[:struct.n_tried]]
        self.range = list(zip(struct.range_lr[:struct.n_range], struct.range_loss[:struct.n_range]))

    def __getattr__(self, name):
        value = getattr(self.struct, name)
        return _text(value) if isinstance(value, bytes) else value

    def train_options(self):
        """What Model.trainer() takes of it."""
        return {name: getattr(self, name) for name in
                ("lr", "batch", "accumulate", "epochs", "warmup", "schedule")}


def _inner(call, options):
    """The structs inside of options that are given as dicts."""
    for name, kind in (("adapter", _api.AdapterOpts), ("train", _api.TrainOpts)):
        if options.get(name) is not None:
            options[name] = call.keep(ctypes.pointer(_options(kind, options[name])))
    return options


def choose(model, data, eval=None, progress=None, **options):
    """Settings from rows, task, memory, range tests of the learning rate, and runs judged by the
    rows of `eval`; where the choice says `refit`, those may train too.  What is given stays:
    method, rank, last, batch, epochs, patience, lr, and dicts adapter and train; others: memory,
    metric, range_steps, no_runs, no_refit.  progress(doing, done, total) ends the call by
    returning true."""
    call, out = _Call(), _kit.Choice()
    doing = None
    if progress:
        def doing(what, done, total):
            return progress(_text(what), done, total)
    opts = _options(_kit.AutoOpts, _inner(call, dict(options)))
    opts.progress = call.callback(_kit.Doing, doing)
    call.check(kit.peft_auto(model._c, data._c, eval._c if eval else None, ctypes.byref(opts),
                             ctypes.byref(out)))
    return Choice(out)


def apply(model, choice, **adapter):
    """Makes what the choice says trainable; an adapter is called "default".  Options: of
    Model.add_adapter()."""
    opts = _options(_api.AdapterOpts, adapter)
    _check(kit.peft_auto_apply(model._c, ctypes.byref(choice.struct), ctypes.byref(opts)))


def _trial(struct):
    """One run of a trial, with its settings as a dict."""
    trial = _record(struct)
    trial.settings = {_text(struct.name[i]): struct.value[i].value.decode()
                      for i in range(struct.n)}
    del trial.name, trial.value, trial.n
    return trial


def tune(model, data, eval, folder, on_trial=None, progress=None, **options):
    """Searches for settings by successive halving; the best adapter or model is in folder/best,
    and the same call goes on where an earlier one was ended.  Options: search ("lr=1e-5..1e-3,
    rank=4|8|16"), method, last, trials, seconds, eta, metric, patience, eval_batch, seed, and
    dicts adapter and train.  on_trial(trial) and progress(trial, done, steps) end the call by
    returning true."""
    call, out = _Call(), _kit.Tuned()

    def seen(pointer):
        return on_trial(_trial(_kit.Trial.from_address(pointer)))

    def doing(pointer, done, steps):
        return progress(_trial(_kit.Trial.from_address(pointer)) if pointer else None, done, steps)
    opts = _options(_kit.TuneOpts, _inner(call, dict(options)))
    opts.dir = _bytes(folder)
    opts.on_trial = call.callback(_kit.Seen, seen if on_trial else None)
    opts.progress = call.callback(_kit.Trialed, doing if progress else None)
    call.check(kit.peft_tune(model._c, data._c, eval._c, ctypes.byref(opts), ctypes.byref(out)))
    result = _record(out)
    result.best = _trial(out.best)
    return result


# ------------------------------------------------------------------- runs, watched

def falls(metric):
    """True when a smaller value of that metric is better."""
    return bool(kit.peft_metric_falls(_bytes(metric)))


class Watch(_Handle):
    """Looks at a run while it is made and says what goes wrong:

        watch = Watch(patience=2)
        for step in trainer:
            for notice in watch.step(step):
                print(notice.what, notice.advice)
    """
    _free = kit.peft_watch_free

    def __init__(self, model=None, **options):
        """Options: metric, patience, chance, smoothing, resumed."""
        handle, opts = ctypes.c_void_p(), _options(_kit.WatchOpts, options)
        opts.model = model._c if model else None
        _check(kit.peft_watch_new(ctypes.byref(opts), ctypes.byref(handle)))
        super().__init__(handle)
        self.notices, self._model = [], model

    def _new(self):
        found = []
        while True:
            out = _kit.Notice()
            code = kit.peft_watch_notice(self._c, len(self.notices), ctypes.byref(out))
            if code == _END:
                return found
            _check(code)
            found.append(_record(out))
            self.notices.append(found[-1])

    def step(self, step):
        """Tells it of a step of a Trainer; returns the notices that are new."""
        names = {name for name, _ in _api.Step._fields_} - {"size"}
        told = _api.Step(**{k: v for k, v in vars(step).items() if k in names})
        _check(kit.peft_watch_step(self._c, ctypes.byref(told)))
        return self._new()

    def evaluate(self, step, evaluation):
        """Tells it of Model.evaluate() after so many steps; returns the notices that are new."""
        names = ("rows", "tokens", "loss", "perplexity", "token_accuracy", "accuracy", "f1",
                 "seconds")
        told = _api.Evaluation(**{k: getattr(evaluation, k) for k in names})
        told.n_metrics = min(len(evaluation.metrics), len(told.metrics))
        for i, (name, value) in enumerate(list(evaluation.metrics.items())[:told.n_metrics]):
            told.metrics[i].name, told.metrics[i].value = name.encode(), value
        _check(kit.peft_watch_eval(self._c, step, ctypes.byref(told)))
        return self._new()

    @property
    def info(self):
        """The smooth loss, the best evaluation, and `stop` when patience has ended."""
        out = _kit.Watched()
        _check(kit.peft_watch_info(self._c, ctypes.byref(out)))
        return _record(out)


class Board(_Handle):
    """Measures models, with or without adapters, on the rows of one file:

        board = Board("test.jsonl", generate=1)
        base, tuned = board.run(model, "base"), board.run(adapted, "tuned")
        print(board.versus(base.number, tuned.number, "rougeL").words)
    """
    _free = kit.peft_board_free

    def __init__(self, path, data=None, progress=None, **options):
        """Options: shots (a file), question, generate, max_tokens, batch, samples, level, seed;
        `data`: a dict, the options of Model.dataset()."""
        handle, self._call = ctypes.c_void_p(), _Call()
        doing = None
        if progress:
            def doing(what, done, total):
                return progress(_text(what), done, total)
        opts = _options(_kit.BoardOpts, options)
        if data:
            opts.data = self._call.keep(ctypes.pointer(_options(_api.DatasetOpts, data)))
        opts.progress = self._call.callback(_kit.Doing, doing)
        self._call.check(kit.peft_board_new(_bytes(path), ctypes.byref(opts),
                                            ctypes.byref(handle)))
        super().__init__(handle)

    def run(self, model, name, shots=0):
        """Measures the model as it is now; None: the most frequent label.  `number` is its place
        on the board."""
        out = _kit.Judged()
        number = self._call.check(kit.peft_board_run(self._c, model._c if model else None,
                                                     _bytes(name), shots, ctypes.byref(out)))
        result = _record(out)
        result.number, result.name = number, _text(out.name)
        return result

    def _all(self, function, system, kind):
        rows = []
        while True:
            out = kind()
            code = function(self._c, system, len(rows), ctypes.byref(out))
            if code == _END:
                return rows
            _check(code)
            rows.append(_record(out))

    def figures(self, system):
        """By name a value, its interval, and whether `lower` is better; the most telling first."""
        return {f.name: f for f in self._all(kit.peft_board_figure, system, _kit.Figure)}

    def rows(self, system):
        """What the system said of each row."""
        return self._all(kit.peft_board_row, system, _kit.Prediction)

    def versus(self, a, b, figure):
        """Whether system b is better than a by that figure: gain, interval, p, verdict, words."""
        out = _kit.Versus()
        _check(kit.peft_board_versus(self._c, a, b, _bytes(figure), ctypes.byref(out)))
        return _record(out)

    @property
    def labels(self):
        names, i = [], 0
        while (name := kit.peft_board_label(self._c, i)) is not None:
            names.append(_text(name))
            i += 1
        return names

    def confusion(self, system):
        """Rows: true classes, as in `labels`."""
        n = _check(kit.peft_board_confusion(self._c, system, None))
        cells = (ctypes.c_int64 * max(n * n, 1))()
        _check(kit.peft_board_confusion(self._c, system, cells))
        return [list(cells[i * n:i * n + n]) for i in range(n)]


# ---------------------------------------------------------------- forgetting, receipts

def probe(model, path=None, **options):
    """A data set on which drift is measured: a file's rows, or some 600 tokens that are built
    in.  Options: of Model.dataset()."""
    out, opts = ctypes.c_void_p(), _options(_api.DatasetOpts, options)
    _check(kit.peft_probe_load(model._c, _bytes(path), ctypes.byref(opts), ctypes.byref(out)))
    return Dataset(out, model)


def hold(model, base, probe, bound, adapter="default"):
    """Gives the adapter (None: what was trained of the model itself) the largest weight that
    keeps KL(base || model) on the probe within bound: kl, before, weight."""
    out = _kit.Drift()
    _check(kit.peft_drift_hold(model._c, _bytes(adapter), base._c, probe._c, bound,
                               ctypes.byref(out)))
    return _record(out)


def hash_path(path):
    """SHA-256 of a file or folder, and the bytes of all its files."""
    text, n = ctypes.create_string_buffer(65), ctypes.c_int64()
    _check(kit.peft_hash_path(_bytes(path), text, ctypes.byref(n)))
    return text.value.decode(), n.value


def write_receipt(path, folder, inputs, words=(), results=(), files=()):
    """What a result was made of, with the hashes of all files as they are now.  inputs: a dict
    of paths by role; results: a dict; files: names in the folder."""
    call = _Call()
    def listed(items):
        return (_kit.ReceiptFile * max(len(items), 1))(
            *[_kit.ReceiptFile(role=_bytes(role), path=_bytes(name)) for role, name in items])
    given, made = listed(list(dict(inputs).items())), listed([(None, name) for name in files])
    results = dict(results)
    metrics = (_api.Metric * max(len(results), 1))(
        *[_api.Metric(name=_bytes(k), value=v) for k, v in results.items()])
    info = _kit.ReceiptInfo(
        inputs=call.keep(given), n_inputs=len(dict(inputs)), words=call.keep(_texts(list(words))),
        n_words=len(words), results=call.keep(metrics), n_results=len(results),
        files=call.keep(made), n_files=len(files))
    _check(kit.peft_receipt_write(_bytes(path), ctypes.byref(info), _bytes(folder)))


def read_receipt(path):
    """version, kernels, blas, inputs and files (role, path, hash, bytes), words, results."""
    handle = ctypes.c_void_p()
    _check(kit.peft_receipt_read(_bytes(path), ctypes.byref(handle)))
    try:
        info = _kit.ReceiptInfo.from_address(kit.peft_receipt_get(handle))
        result = _record(info)
        for name in ("inputs", "files"):
            n = getattr(info, "n_" + name)
            at = ctypes.cast(getattr(info, name), ctypes.POINTER(_kit.ReceiptFile))
            setattr(result, name, [_record(at[i]) for i in range(n)])
            delattr(result, "n_" + name)
        words = ctypes.cast(info.words, ctypes.POINTER(ctypes.c_char_p))
        result.words = [_text(words[i]) for i in range(info.n_words)]
        metrics = ctypes.cast(info.results, ctypes.POINTER(_api.Metric))
        result.results = {_text(metrics[i].name): metrics[i].value for i in range(info.n_results)}
        del result.n_words, result.n_results
        return result
    finally:
        kit.peft_receipt_free(handle)
