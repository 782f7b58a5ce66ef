"""Data preparation: the commands of `peft data` as functions.

    from libpeft import data
    seen = data.inspect("reviews.csv", columns={"text": "body", "label": "stars"})
    print(seen["summary"]["rows"], seen["labels"])
    data.split("reviews.csv", "parts", ratio=(8, 1, 1), stratify="label")

Options have the names of peft_data.h's struct fields.  Every function that reads a file also
takes how its rows are read: columns (a dict of new: old names), table, chunk, limit, threads,
and progress, a function of the bytes done and of all, which ends the call by returning true.
"""
import ctypes
from types import SimpleNamespace

from . import _check, _END, _bytes, _Handle, _options, _pointer, _record, _texts
from . import _api, _kit
from ._kit import kit

SIDES = ("train", "valid", "test")


class _Call:
    """The options of one call: what must live as long as it, and what a callback raised."""

    def __init__(self):
        self.kept, self.raised = [], []

    def keep(self, value):
        self.kept.append(value)
        return _pointer(value)

    def callback(self, kind, function):
        """A C callback without its context; a true result or an exception ends the call."""
        def called(_ctx, *arguments):
            try:
                return 1 if function(*arguments) else 0
            except BaseException as error:  # Ctrl-C too: it must not be lost in C
                self.raised.append(error)
                return 1
        return None if function is None else self.keep(kind(called))

    def source(self, options):
        """Takes what belongs to the source out of the options."""
        names = {name for name, _ in _kit.SourceOpts._fields_}
        mine = {k: options.pop(k) for k in list(options) if k in names}
        mine["progress"] = self.callback(_kit.Progress, mine.get("progress"))
        if isinstance(mine.get("columns"), dict):
            mine["columns"] = ",".join("%s=%s" % item for item in mine["columns"].items())
        return self.keep(ctypes.pointer(_options(_kit.SourceOpts, mine)))

    def options(self, kind, options, **more):
        """The struct of the options, with the source if it has one."""
        source = "source" in dict(kind._fields_)
        struct_options = dict(options)
        if source:
            more["source"] = self.source(struct_options)
        opts = _options(kind, struct_options)
        for name, value in more.items():
            setattr(opts, name, value)
        return ctypes.byref(opts)

    def check(self, result):
        if self.raised:
            raise self.raised[0]
        return _check(result)


def _text(value):
    return None if value is None else value.decode("utf-8", "replace")


def _tables(handle):
    """Tables as a dict: of facts a dict, of others a list of dicts.  Releases the handle."""
    found, i = {}, 0
    try:
        while True:
            table = _kit.Table()
            code = kit.peft_tables_at(handle, i, ctypes.byref(table))
            if code == _END:
                return found
            _check(code)
            n = table.n_columns
            heads = ctypes.cast(table.columns, ctypes.POINTER(ctypes.c_char_p))
            cells = ctypes.cast(table.cells, ctypes.POINTER(_kit.Cell))
            heads = [_text(heads[c]) for c in range(n)]
            rows = [[_value(cells[r * n + c]) for c in range(n)] for r in range(table.n_rows)]
            found[_text(table.name)] = (dict(rows) if table.kind == 0 else
                                        [dict(zip(heads, row)) for row in rows])
            i += 1
    finally:
        kit.peft_tables_free(handle)


def _value(cell):
    """A text, an int, a float, or None."""
    if cell.text is not None:
        return _text(cell.text)
    x = cell.number
    return None if x != x else int(x) if x == int(x) and abs(x) < 2 ** 53 else x


def inspect(path, model=None, **options):
    """What a file or folder of rows holds and what is wrong with it: a dict of tables, as
    `summary`, `notes`, `schemas`, `columns`, `lengths`, `labels`, `scripts`, `broken` and
    `examples`.  Tokens are counted with a Model.  Options: max_len, examples, seed."""
    call, out = _Call(), ctypes.c_void_p()
    opts = call.options(_kit.InspectOpts, options, model=model._c if model else None)
    call.check(kit.peft_data_inspect(_bytes(path), opts, ctypes.byref(out)))
    return _tables(out)


def normalize(path, out=None, **options):
    """Brings the texts of all rows into one form and writes JSONL to `out` (None: only tells); a
    dict of tables, `summary`, `rules` and `examples`.  Options: form, rules, repeated."""
    call, report = _Call(), ctypes.c_void_p()
    opts = call.options(_kit.NormalizeOpts, options)
    call.check(kit.peft_data_normalize(_bytes(path), _bytes(out), opts, ctypes.byref(report)))
    return _tables(report)


def clean(path, out=None, model=None, **options):
    """Writes the rows that belong into training data to `out` (None: only tells): without
    repetitions, contradictions, damage, what is too short or long, and what leaks into
    evaluation data; a dict of tables as normalize().  Options: actions ("mail=mask,near=off"),
    against, dropped, near, shingle, min_chars, max_chars, memory, and with a Model min_tokens,
    max_tokens."""
    call, report = _Call(), ctypes.c_void_p()
    opts = call.options(_kit.CleanOpts, options, model=model._c if model else None)
    call.check(kit.peft_data_clean(_bytes(path), _bytes(out), opts, ctypes.byref(report)))
    return _tables(report)


def split(path, out, ratio=None, **options):
    """Deals rows out to train.jsonl, valid.jsonl and test.jsonl in the folder `out`.  Options:
    stratify, group, group_text, overwrite, seed, memory.  `classes` of the result: rows by side."""
    call, classes, result = _Call(), {}, _kit.Split()

    def on_class(name, rows):
        classes[_text(name)] = dict(zip(SIDES, rows[:3]))

    def called(_ctx, name, rows):
        try:
            on_class(name, rows)
        except BaseException as error:
            call.raised.append(error)
    opts = call.options(_kit.SplitOpts, options, on_class=call.keep(_kit.Counted(called)),
                        ratio=(ctypes.c_double * 3)(*(ratio or ())))
    call.check(kit.peft_data_split(_bytes(path), _bytes(out), opts, ctypes.byref(result)))
    return SimpleNamespace(rows=dict(zip(SIDES, result.rows)),
                           groups=dict(zip(SIDES, result.groups)), classes=classes,
                           scarce=result.scarce, shared=result.shared)


def convert(path, out, to, **options):
    """Turns rows into another format: "alpaca", "sharegpt", "messages", "prompt-completion",
    "preference" or "text".  Options: from_ (as the first row is), layout, skip, drop, overwrite."""
    call, result = _Call(), _kit.DataConverted()
    options = {"from" if k == "from_" else k: v for k, v in options.items()}
    opts = call.options(_kit.DataConvertOpts, options, to=_bytes(to))
    call.check(kit.peft_data_convert(_bytes(path), _bytes(out), opts, ctypes.byref(result)))
    return _record(result)


def augment(path, out, through=None, back=None, generate=None, **options):
    """Writes rows, or pictures, each followed by its changed copies; `by_method` of the result
    counts them.  Options: methods ("delete,swap"), thesaurus, strength, share, copies, answers,
    fixed, eval, pictures, seed, overwrite; back-translation by the Models through and back, with
    through_prompt, back_prompt, batch, and the dict generate, the options of Model.generate()."""
    call, result = _Call(), _kit.Augmented()
    more = {"through": through._c if through else None, "back": back._c if back else None}
    if generate:
        more["generate"] = call.keep(ctypes.pointer(_options(_api.GenerateOpts, generate)))
    opts = call.options(_kit.AugmentOpts, options, **more)
    call.check(kit.peft_data_augment(_bytes(path), _bytes(out), opts, ctypes.byref(result)))
    names = [_text(name) for name in result.method]
    counts = {name: n for name, n in zip(names, result.by_method) if name}
    result = _record(result)
    result.by_method = counts
    del result.method
    return result


def _labels(pointer, n):
    names = ctypes.cast(pointer, ctypes.POINTER(ctypes.c_char_p))
    return [_text(names[i]) for i in range(n)]


def agree(paths, **options):
    """How far several labellers of the same rows agree: kappas, and `pairs` and `rows` where they
    differ.  Options: out (a file of the majority's labels), least."""
    call, result, pairs, rows = _Call(), _kit.Agreement(), [], []

    def on_pair(pointer):
        pair = _kit.AgreePair.from_address(pointer)
        n, cells = pair.n_labels, ctypes.cast(pair.confusion, ctypes.POINTER(ctypes.c_int64))
        one = _record(pair)
        one.labels = _labels(pair.labels, n)
        one.confusion = [list(cells[i * n:i * n + n]) for i in range(n)]
        pairs.append(one)

    def on_row(pointer):
        row = _kit.AgreeRow.from_address(pointer)
        one = _record(row)
        one.labels = _labels(row.labels, row.n)
        rows.append(one)
    opts = call.options(_kit.AgreeOpts, options, on_pair=call.callback(_kit.Seen, on_pair),
                        on_row=call.callback(_kit.Seen, on_row))
    call.check(kit.peft_data_agree(_texts([str(p) for p in paths]), len(paths), opts,
                                   ctypes.byref(result)))
    result = _record(result)
    result.pairs, result.differ = pairs, rows
    return result


def label_faults(probabilities, given, rank=None):
    """Confident learning: what probabilities, a list of one row of floats for each text, say of
    the labels (numbers) that were given.  Returns likely, flagged, confidence and margin of each,
    and the order by suspicion."""
    n, labels = len(given), len(probabilities[0])
    flat = (ctypes.c_float * (n * labels))(*[p for row in probabilities for p in row])
    out, order = (_kit.LabelCheck * n)(), (ctypes.c_int64 * n)()
    _check(kit.peft_label_faults(flat, (ctypes.c_int32 * n)(*given), n, labels, _bytes(rank), out,
                                 order))
    return [_record(x) for x in out], list(order)


def faults(path, model, **options):
    """Suspected label errors of a file, by heads on what the Model makes of each row: counts and
    `faults`, the worst first; where labels are lists, with those that are `missing` and `wrong`.
    Options: tune, folds, rank, share, l2, seed, pool, max_len, batch, out
    (a file of the suspects), clean (one of the others)."""
    call, result, found = _Call(), _kit.Faults(), []

    def on_fault(pointer):
        fault = _kit.LabelFault.from_address(pointer)
        if fault.suspect:
            one = _record(fault)
            one.missing = _labels(fault.missing, fault.n_missing)
            one.wrong = _labels(fault.wrong, fault.n_wrong)
            found.append(one)
    opts = call.options(_kit.FaultsOpts, options, on_fault=call.callback(_kit.Seen, on_fault))
    call.check(kit.peft_data_faults(_bytes(path), model._c, opts, ctypes.byref(result)))
    result = _record(result)
    result.faults = found
    return result


class Labeller(_Handle):
    """A session of labelling by hand, which goes on where `out` ends:

        with Labeller("reviews.csv", "labelled.jsonl", labels=["good", "bad"]) as session:
            for row in session:
                session.give(ask(row.text, session.labels))
    """
    _free = kit.peft_labeller_free

    def __init__(self, path, out, labels=None, **options):
        """Options: by, and how rows are read."""
        call, handle = _Call(), ctypes.c_void_p()
        if labels:
            options["labels"] = ",".join(labels)
        opts = call.options(_kit.LabelOpts, options)
        call.check(kit.peft_labeller_open(_bytes(path), _bytes(out), opts, ctypes.byref(handle)))
        super().__init__(handle)

    @property
    def labels(self):
        names, i = [], 0
        while (name := kit.peft_labeller_label(self._c, i)) is not None:
            names.append(_text(name))
            i += 1
        return names

    def row(self):
        """The row to label now, with its text and counts; None when all have a decision."""
        out = _kit.LabelRow()
        code = kit.peft_labeller_row(self._c, ctypes.byref(out))
        return None if code == _END else _check(code) or _record(out)

    def __iter__(self):
        """Rows, as long as each is given a label or skipped."""
        while (row := self.row()) is not None:
            yield row

    def give(self, label):
        _check(kit.peft_labeller_give(self._c, _bytes(label)))

    def skip(self):
        _check(kit.peft_labeller_skip(self._c))

    def undo(self):
        """Takes the last decision back; False when there is none."""
        code = kit.peft_labeller_undo(self._c)
        return code != _END and _check(code) == 0
