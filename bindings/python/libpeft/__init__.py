"""libpeft: fine-tuning of pre-trained models, through the C library.

    import libpeft
    with libpeft.Model("model.gguf") as model:
        model.add_adapter(rank=16)
        data = model.dataset("chats.jsonl")
        for step in model.trainer(data, epochs=3):
            print(step.step, step.loss)
        model.save_adapter("adapter")
        print(model.generate("What is the capital of France?"))

Options have the names of peft.h's struct fields.  Failures are exceptions:
PeftError and its subclasses, with the library's own reason.
"""
import ctypes
import itertools
import json
import math
import queue
import threading
from array import array
from types import SimpleNamespace

from . import _api
from ._api import lib

__version__ = "%d.%d.%d" % (lib.peft_version() // 10000, lib.peft_version() // 100 % 100,
                            lib.peft_version() % 100)
SLICE = 100_000  # microseconds between two looks at Ctrl-C


class PeftError(Exception):
    """A call of the library failed; `code` is its PEFT_E* number."""
    code = 0


class ArgumentError(PeftError, ValueError):
    pass


class OutOfMemory(PeftError, MemoryError):
    pass


class FileError(PeftError, OSError):
    pass


class FormatError(PeftError, ValueError):
    pass


class Unsupported(PeftError):
    pass


class NotFound(PeftError, LookupError):
    pass


class StateError(PeftError):
    pass


class NonFinite(PeftError, ArithmeticError):
    pass


class Cancelled(PeftError):
    pass


class DataError(PeftError, ValueError):
    pass


_ERRORS = {-1: ArgumentError, -2: OutOfMemory, -3: FileError, -4: FormatError, -5: Unsupported,
           -6: NotFound, -7: StateError, -8: NonFinite, -9: Cancelled, -11: DataError}
_END = -10
REASONS = ("eos", "length", "stop", "callback", "context")


def _check(result):
    """Passes a result on, or raises what a negative one stands for."""
    if result < 0:
        error = _ERRORS.get(result, PeftError)(lib.peft_errmsg().decode("utf-8", "replace"))
        error.code = result
        raise error
    return result


def _bytes(text):
    return None if text is None else str(text).encode()


def _options(kind, options):
    """Keyword arguments as an options struct; text becomes UTF-8."""
    known = {name for name, _ in kind._fields_}
    for name in options:
        if name not in known or name == "size":
            raise TypeError("%s has no option %r" % (kind.__name__, name))
    return kind(**{k: v.encode() if isinstance(v, str) else v for k, v in options.items()})


def _evaluated(row):
    """A row of an evaluation, whose arrays become lists."""
    result = _record(row)
    for name, kind, n in (("scores", ctypes.c_float, row.n), ("wanted", ctypes.c_float, row.n),
                          ("labels", ctypes.c_int32, row.terms),
                          ("tags", ctypes.c_int32, row.terms)):
        at = getattr(row, name)
        setattr(result, name, list((kind * n).from_address(at)) if at else None)
    result.answer = ctypes.string_at(row.answer, row.answer_n).decode("utf-8", "replace") \
        if row.answer else None
    return result


def _record(struct):
    """A result struct as plain Python values."""
    values = {name: getattr(struct, name) for name, _ in struct._fields_ if name != "size"}
    return SimpleNamespace(**{k: v.decode("utf-8", "replace") if isinstance(v, bytes) else v
                              for k, v in values.items()})


def _texts(values):
    """A C array of texts, NULL for none."""
    if not values:
        return None
    return (ctypes.c_char_p * len(values))(*[None if v is None else v.encode() for v in values])


def _pointer(data):
    return ctypes.cast(data, ctypes.c_void_p)


def _floats(n):
    data = array("f", bytes(4 * n))
    return data, (ctypes.c_float * n).from_buffer(data)


def _picture(picture):
    """A path, or bytes in memory, as the three arguments of C."""
    if isinstance(picture, (bytes, bytearray)):
        return None, bytes(picture), len(picture)
    return _bytes(picture), None, 0


def _ids(ids):
    return (ctypes.c_int32 * len(ids))(*ids)


def system():
    """What the library found on this machine."""
    out = _api.System()
    _check(lib.peft_system_info(ctypes.byref(out)))
    return _record(out)


def tables(name):
    """What works: the rows of "families", "formats", "types", "tokenizers" or "heads"."""
    rows = []
    while True:
        out = _api.Entry()
        code = lib.peft_list(_bytes(name), len(rows), ctypes.byref(out))
        if code == _END:
            return rows
        _check(code)
        rows.append(_record(out))


VERDICTS = ("loads", "refuses", "misreads")


def check_adapter(path, reader=None, base=None):
    """What "peft", "vllm" and "llama.cpp" make of an adapter's folder: a dict by reader of
    `verdict` ("loads", "refuses", "misreads") and `findings`.  `base` may be a Model."""
    opts = _api.CheckOpts(reader=_bytes(reader), base=base._c if base else None)
    out = _api.AdapterReport()
    _check(lib.peft_adapter_check(_bytes(path), ctypes.byref(opts), ctypes.byref(out)))
    found = [_record(f) for f in out.findings[:out.n_findings]]
    for f in found:
        f.verdict = VERDICTS[f.verdict]
    return {name.decode(): SimpleNamespace(
        verdict=VERDICTS[verdict], findings=[f for f in found if f.reader == name.decode()])
        for name, verdict in zip(out.readers[:out.n_readers], out.verdicts)}


class _Handle:
    """Owns one object of the library; close() or `with` releases it."""
    _free = None

    def __init__(self, handle, owner=None):
        self._handle, self._owner, self._children = handle, owner, []
        if owner is not None:
            owner._children.append(self)

    @property
    def _c(self):
        """The C pointer."""
        if not self._handle:
            raise StateError("%s is closed" % type(self).__name__)
        return self._handle

    def close(self):
        # Trainers are made after their data: the newest go first.
        while self._children:
            self._children[-1].close()
        if self._handle:
            type(self)._free(self._handle)
        self._handle = None
        if self._owner is not None:
            self._owner._children.remove(self)
            self._owner = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def __del__(self):
        if getattr(self, "_handle", None) and self._owner is None:
            self.close()


class Dataset(_Handle):
    """Rows as tokens; made by Model.dataset()."""
    _free = lib.peft_dataset_free

    def split(self, share, seed=0):
        """Moves a share of the rows into a data set that is returned."""
        out = ctypes.c_void_p()
        _check(lib.peft_dataset_split(self._c, share, seed, ctypes.byref(out)))
        return Dataset(out, self._owner)

    def subset(self, rows):
        """A data set of these rows, by number, which shares them; a row may be repeated."""
        rows = list(rows)
        out = ctypes.c_void_p()
        _check(lib.peft_dataset_subset(self._c, (ctypes.c_int64 * len(rows))(*rows), len(rows),
                                       ctypes.byref(out)))
        return Dataset(out, self._owner)

    def mix(self, other, rows, seed=0):
        """A data set of all rows and some of another, chosen by seed (replay)."""
        out = ctypes.c_void_p()
        _check(lib.peft_dataset_mix(self._c, other._c, rows, seed, ctypes.byref(out)))
        return Dataset(out, self._owner)

    @property
    def info(self):
        out = _api.DatasetStats()
        _check(lib.peft_dataset_info(self._c, ctypes.byref(out)))
        return _record(out)

    @property
    def labels(self):
        return [lib.peft_dataset_label(self._c, i).decode() for i in range(self.info.labels)]

    def row(self, i):
        """Row i: its line in the file, token ids, the labels of tokens (-100: not trained) or None,
        and its class."""
        out = _api.Row()
        _check(lib.peft_dataset_row(self._c, i, ctypes.byref(out)))
        row = _record(out)
        for name in ("ids", "labels"):
            at = getattr(out, name)
            setattr(row, name, list((ctypes.c_int32 * out.n).from_address(at)) if at else None)
        return row

    def __len__(self):
        return self.info.rows


class Trainer(_Handle):
    """An iterator over training steps; made by Model.trainer()."""
    _free = lib.peft_trainer_free

    @property
    def plan(self):
        """Bytes by kind, steps and work, before anything runs."""
        out = _api.Plan()
        _check(lib.peft_trainer_plan(self._c, ctypes.byref(out)))
        return _record(out)

    def profile(self, on=True):
        """Times every operation of steps from now on; work() has the sums."""
        _check(lib.peft_trainer_profile(self._c, on))

    def work(self):
        """Name, direction, shape, calls, seconds, flops, bytes; the longest first."""
        rows = []
        while True:
            out = _api.Work()
            code = lib.peft_trainer_work(self._c, len(rows), ctypes.byref(out))
            if code == _END:
                return rows
            _check(code)
            rows.append(_record(out))

    @property
    def cache(self):
        """What is kept of the frozen part: what, rows, bytes, and rows used and made."""
        out = _api.Cache()
        _check(lib.peft_trainer_cache(self._c, ctypes.byref(out)))
        return _record(out)

    def step(self, microseconds=None):
        """One step, or None after the last.  With `microseconds` it works for
        about that long; the result's `more` is 1 when the step goes on."""
        out = _api.Step()
        while True:
            rc = lib.peft_train_run_for(self._c, microseconds or SLICE, ctypes.byref(out))
            if rc == _END:
                return None
            _check(rc)
            if microseconds or not out.more:
                return _record(out)

    def __iter__(self):
        return self

    def __next__(self):
        step = self.step()
        if step is None:
            raise StopIteration
        return step

    def cancel(self):
        """From any thread: the step in flight raises Cancelled and is undone."""
        lib.peft_trainer_cancel(self._c)

    def save(self, path):
        """A checkpoint that resume() goes on from with the same bits."""
        _check(lib.peft_trainer_save(self._c, _bytes(path)))

    def resume(self, path):
        _check(lib.peft_trainer_resume(self._c, _bytes(path)))

    def keep(self):
        """Keeps weights, optimizer states and position in memory, for back()."""
        _check(lib.peft_trainer_keep(self._c))

    def back(self):
        """Puts back what keep() kept, bit for bit, as often as wanted."""
        _check(lib.peft_trainer_back(self._c))


class Model(_Handle):
    """A model file or folder; options: threads, level, blas, no_map, quant,
    compute."""
    _free = lib.peft_model_free

    def __init__(self, path, **options):
        out = ctypes.c_void_p()
        opts = _options(_api.LoadOpts, options)
        _check(lib.peft_model_load(_bytes(path), ctypes.byref(opts), ctypes.byref(out)))
        super().__init__(out)

    def save(self, path, **options):
        """A Hugging Face folder, or one file when path ends in .gguf."""
        opts = _options(_api.SaveOpts, options)
        _check(lib.peft_model_save(self._c, _bytes(path), ctypes.byref(opts)))

    @property
    def info(self):
        out = _api.Info()
        _check(lib.peft_model_info(self._c, ctypes.byref(out)))
        return _record(out)

    def peaks(self):
        """What the machine can do at most, measured: GFLOP/s of products, GB/s copied."""
        out = _api.Peaks()
        _check(lib.peft_model_peaks(self._c, ctypes.byref(out)))
        return _record(out)

    def params(self):
        """Every tensor: name, type, rows, cols, layer, trainable."""
        for i in range(self.info.n_tensors):
            out = _api.Param()
            _check(lib.peft_model_param(self._c, i, ctypes.byref(out)))
            yield _record(out)

    def read(self, name):
        """A tensor's values as float32."""
        n = _check(lib.peft_model_read(self._c, _bytes(name), None, 0))
        data, to = _floats(n)
        _check(lib.peft_model_read(self._c, _bytes(name), to, n))
        return data

    def write(self, name, values):
        """The way back, of a tensor that was trained; no trainer may be alive."""
        data, to = _floats(len(values))
        data[:] = array("f", values)
        _check(lib.peft_model_write(self._c, _bytes(name), to, len(values)))

    # ------------------------------------------------------- what is trained

    def freeze_layers(self, first, last):
        _check(lib.peft_freeze_layers(self._c, first, last))

    def freeze(self, glob="*"):
        _check(lib.peft_freeze(self._c, _bytes(glob)))

    def unfreeze(self, glob):
        _check(lib.peft_unfreeze(self._c, _bytes(glob)))

    def to_float(self, glob, only_cost=False):
        """Makes tensors float32, the form that trains; returns the bytes."""
        out = ctypes.c_int64()
        _check(lib.peft_to_float(self._c, _bytes(glob), only_cost, ctypes.byref(out)))
        return out.value

    def add_head(self, labels=0, **options):
        """A head; labels: their names, or how many.  Options: kind ("multi-label", "tokens",
        "question-answering", "regression", "reward", "masked-lm"), pool, dropout, seed."""
        names = None if isinstance(labels, int) else _texts(labels)
        opts = _options(_api.HeadOpts, options)
        opts.labels = labels if isinstance(labels, int) else len(labels)
        opts.names = ctypes.cast(names, ctypes.c_void_p)
        _check(lib.peft_head_add(self._c, ctypes.byref(opts)))

    @property
    def labels(self):
        return [lib.peft_label_name(self._c, i).decode() for i in range(self.info.labels)]

    def add_adapter(self, name="default", **options):
        """Options: method, rank, alpha, dropout, rslora, targets, target_parameters, init,
        init_model, lr_ratio, seed, trainable_tokens ("<|im_end|>,17"), modules_to_save, and settings,
        a dict of PEFT's adapter_config.json."""
        if isinstance(options.get("settings"), dict):
            options["settings"] = json.dumps(options["settings"])
        if isinstance(options.get("rslora"), bool):
            options["rslora"] = 1 if options["rslora"] else -1
        opts = _options(_api.AdapterOpts, options)
        _check(lib.peft_adapter_add(self._c, _bytes(name), ctypes.byref(opts)))

    def init_adapter_eva(self, data, name="default", **options):
        """Starts a fresh LoRA adapter from the data (EVA); options: rho, tau, whiten,
        keep_alpha, all_tokens, batch, seed."""
        opts = _options(_api.EvaOpts, options)
        _check(lib.peft_adapter_init_eva(self._c, _bytes(name), data._c, ctypes.byref(opts)))

    def load_adapter(self, path, name="default"):
        """A folder of PEFT's or MLX-LM's, or a GGUF adapter."""
        _check(lib.peft_adapter_load(self._c, _bytes(name), _bytes(path)))

    def save_adapter(self, path, name="default", **options):
        """PEFT's folder, or a GGUF file when path ends in .gguf.  Options: format ("peft",
        "gguf", "mlx") and dtype ("f32", "f16", "bf16")."""
        opts = _options(_api.AdapterSaveOpts, options)
        _check(lib.peft_adapter_save_as(self._c, _bytes(name), _bytes(path), ctypes.byref(opts)))

    def convert_adapter(self, path, out, texts=(), **options):
        """Writes the adapter at `path`, of this base, so that a reader reads it right, and proves
        it: options are reader, format, dtype, merge, rank and limit."""
        opts = _options(_api.ConvertOpts, options)
        if texts:
            kept = _texts(texts)
            opts.texts, opts.n_texts = ctypes.cast(kept, ctypes.c_void_p), len(texts)
        result = _api.Converted()
        _check(lib.peft_adapter_convert(self._c, _bytes(path), _bytes(out), ctypes.byref(opts),
                                        ctypes.byref(result)))
        return _record(result)

    def enable_adapter(self, name="default"):
        _check(lib.peft_adapter_enable(self._c, _bytes(name)))

    def disable_adapter(self, name="default"):
        _check(lib.peft_adapter_disable(self._c, _bytes(name)))

    def remove_adapter(self, name="default"):
        _check(lib.peft_adapter_remove(self._c, _bytes(name)))

    def set_adapter_merged(self, name="default", on=True):
        """Folds it into the weights, or takes it out again, bit for bit."""
        _check(lib.peft_adapter_set_merged(self._c, _bytes(name), int(on)))

    def set_adapter_weight(self, weight, name="default"):
        _check(lib.peft_adapter_set_weight(self._c, _bytes(name), weight))

    def combine_adapters(self, name, weights, **options):
        """A new LoRA adapter of others, {name: weight}; options: how, density, rank, seed."""
        opts = _options(_api.CombineOpts, options)
        names = (ctypes.c_char_p * len(weights))(*map(_bytes, weights))
        values = (ctypes.c_float * len(weights))(*weights.values())
        _check(lib.peft_adapter_combine(self._c, _bytes(name), names, values, len(weights),
                                        ctypes.byref(opts)))

    def merge(self, name="default"):
        _check(lib.peft_adapter_merge(self._c, _bytes(name)))

    # ------------------------------------------------------- data, training

    def dataset(self, path="rows.jsonl", rows=None, **options):
        """JSONL, CSV or a folder of pictures, or `rows`: dictionaries; options: max_len,
        system, train_on_prompt, limit, any_path, prefix, columns, table, chunk."""
        out = ctypes.c_void_p()
        opts = _options(_api.DatasetOpts, options)
        if rows is not None:
            text = "\n".join(json.dumps(row) for row in rows).encode()
            opts.text, opts.text_n = ctypes.cast(text, ctypes.c_void_p), len(text)
        _check(lib.peft_dataset_load(self._c, _bytes(path), ctypes.byref(opts), ctypes.byref(out)))
        return Dataset(out, self)

    def trainer(self, data, **options):
        """Options: lr, epochs, steps, batch, schedule, clip, seed, augment, ...;
        memory_limit in bytes is not exceeded, and `plan.choice` says how."""
        out = ctypes.c_void_p()
        opts = _options(_api.TrainOpts, options)
        _check(lib.peft_trainer_new(self._c, data._c, ctypes.byref(opts), ctypes.byref(out)))
        return Trainer(out, self)

    def evaluate(self, data, batch=0, rows=False):
        """Loss, and the task's figures by name in `metrics`; `confusion` is a list of rows
        with a head for classes.  With `rows`, `each` lists what was found of each."""
        n = self.info.labels
        cells = (ctypes.c_int64 * (n * n))() if n > 1 else None
        found = []
        each = _api.OnRow(lambda _, row: found.append(_evaluated(row.contents)) or 0)
        opts = _api.EvalOpts(batch=batch, confusion=ctypes.cast(cells, ctypes.c_void_p),
                             on_row=ctypes.cast(each, ctypes.c_void_p) if rows else None)
        out = _api.Evaluation()
        _check(lib.peft_eval(self._c, data._c, ctypes.byref(opts), ctypes.byref(out)))
        result = _record(out)
        result.each = found if rows else None
        result.metrics = {m.name.decode(): m.value for m in out.metrics[:out.n_metrics]}
        result.confusion = [list(cells[i * n:i * n + n]) for i in range(n)] if cells else None
        return result

    def compare(self, reference, data, batch=0):
        """How far this model is from another on the data: kl, perplexity, ..."""
        out = _api.Comparison()
        opts = _api.EvalOpts(batch=batch)
        _check(lib.peft_compare(self._c, reference._c, data._c, ctypes.byref(opts),
                                ctypes.byref(out)))
        return _record(out)

    def quantize(self, data, **options):
        """Every matrix gets the type that costs least on the data; options: budget
        (bytes) or bits (a weight), types, batch.  save() then writes it so."""
        out = _api.Quantized()
        opts = _options(_api.QuantizeOpts, options)
        _check(lib.peft_quantize(self._c, data._c, ctypes.byref(opts), ctypes.byref(out)))
        return _record(out)

    # --------------------------------------------------------- text, logits

    def tokenize(self, text, special=True, plain=False, offsets=False):
        """Token ids; with offsets also the (begin, end) that each stands for:
        characters of a str, bytes of bytes, as Hugging Face's tokenizers."""
        data = text.encode() if isinstance(text, str) else text
        flags = (1 if special else 0) | (2 if plain else 0)
        n, cap = len(data) + 16, 0
        while n > cap:
            cap = n
            ids = (ctypes.c_int32 * cap)()
            spans = (ctypes.c_int32 * (2 * cap))() if offsets else None
            n = _check(lib.peft_tokenize_offsets(self._c, data, len(data), flags, ids, spans,
                                                 cap))
        if not offsets:
            return ids[:n]
        at = range(len(data) + 1)
        if len(data) != len(text):
            at = [0, *itertools.accumulate((b & 0xc0) != 0x80 for b in data)]
        return ids[:n], [(at[spans[2 * i]], at[spans[2 * i + 1]]) for i in range(n)]

    def detokenize(self, ids, skip_special=False):
        n = _check(lib.peft_detokenize(self._c, _ids(ids), len(ids), skip_special, None, 0))
        text = ctypes.create_string_buffer(n + 1)
        _check(lib.peft_detokenize(self._c, _ids(ids), len(ids), skip_special, text, n))
        return text.raw[:n].decode("utf-8", "replace")

    def forward(self, ids):
        """Logits [len(ids)][vocab], or [labels] with a head, or [len(ids)][labels] with one for
        tokens, as a memoryview that numpy.asarray() takes without a copy."""
        info = self.info
        shape = [len(ids)] * info.each_token + [info.outputs]
        data, to = _floats(math.prod(shape))
        _check(lib.peft_forward(self._c, _ids(ids), len(ids), to))
        return memoryview(data).cast("B").cast("f", shape)

    def forward_pair(self, source, ids):
        """Of an encoder-decoder model: logits [len(ids)][vocab] for the ids of a
        target, the first of which is info.decoder_start."""
        shape = [len(ids), self.info.vocab]
        data, to = _floats(math.prod(shape))
        _check(lib.peft_forward_pair(self._c, _ids(source), len(source), _ids(ids), len(ids), to))
        return memoryview(data).cast("B").cast("f", shape)

    def embed(self, text, normalize=True):
        """A sentence embedding of a text or of token ids."""
        ids = self.tokenize(text) if isinstance(text, str) else text
        data, to = _floats(self.info.dim)
        _check(lib.peft_embed(self._c, _ids(ids), len(ids), normalize, to))
        return data

    # ------------------------------------------------------------- pictures

    def pixels(self, picture):
        """A picture as the model reads it, [channels][height][width]; `picture`
        is a path or the bytes of a PNG or JPEG file."""
        info = self.info
        data, to = _floats(max(1, info.channels * info.image_height * info.image_width))
        _check(lib.peft_image_read(self._c, *_picture(picture), to))
        return memoryview(data).cast("B").cast("f", [info.channels, info.image_height,
                                                     info.image_width])

    def classify_image(self, picture):
        """The probability of each class by its name, the likeliest first."""
        labels = self.labels
        data, to = _floats(max(1, len(labels)))
        _check(lib.peft_classify_image(self._c, *_picture(picture), to))
        return dict(sorted(zip(labels, data), key=lambda pair: -pair[1]))

    def embed_image(self, picture, normalize=True):
        data, to = _floats(self.info.embed_dim)
        _check(lib.peft_embed_image(self._c, *_picture(picture), normalize, to))
        return data

    # -------------------------------------------------------- answers of heads

    def classify(self, texts, pairs=None, adapters=None, **options):
        """Scores of a text, or of each of a list: {label: score}.  `adapters`: the name of
        each text's, "" = none, None = those enabled.  Options: raw, max_len, batch."""
        one = isinstance(texts, str)
        texts = [texts] if one else list(texts)
        pairs = None if pairs is None else [pairs] if one else list(pairs)
        opts = _options(_api.ClassifyOpts, options)
        seconds, names = _texts(pairs), self.labels
        opts.pairs = ctypes.cast(seconds, ctypes.c_void_p)
        who = _texts(adapters)
        opts.adapters = _pointer(who)
        data, to = _floats(len(texts) * len(names))
        _check(lib.peft_classify(self._c, _texts(texts), len(texts), ctypes.byref(opts), to, None))
        rows = [dict(zip(names, data[i * len(names):])) for i in range(len(texts))]
        return rows[0] if one else rows

    def tag(self, text, **options):
        """The labelled parts of a text: label, begin, end (of str), text, score.  Options:
        aggregate ("none", "simple", "first", "average", "max"), all, max_len."""
        data, opts = text.encode(), _options(_api.TagOpts, options)
        cap = len(data) + 1
        out = (_api.Tag * cap)()
        n = _check(lib.peft_tag_text(self._c, data, len(data), ctypes.byref(opts), out, cap))
        return [self._part(data, t, label=t.label.decode()) for t in out[:min(n, cap)]]

    def answer(self, question, context, n_best=None, **options):
        """The best answer in the context, or the n_best: begin, end, text, score.  Options:
        no_answer, max_answer, max_len, stride."""
        data, opts = context.encode(), _options(_api.AnswerOpts, options)
        opts.n_best = n_best or 1
        out = (_api.AnswerSpan * opts.n_best)()
        n = _check(lib.peft_answer(self._c, _bytes(question), data, ctypes.byref(opts), out,
                                   opts.n_best))
        found = [self._part(data, s) for s in out[:n]]
        return found if n_best else found[0] if found else None

    @staticmethod
    def _part(data, span, **more):
        begin = len(data[:span.begin].decode())
        text = data[span.begin:span.end].decode()
        return SimpleNamespace(begin=begin, end=begin + len(text), text=text, score=span.score,
                               **more)

    def fill_mask(self, text, top_k=5):
        """For each mask token of the text its top_k tokens: (text, score)."""
        data = text.encode()
        n = _check(lib.peft_fill_mask(self._c, data, len(data), top_k, None, 0))
        out = (_api.Filled * n)()
        _check(lib.peft_fill_mask(self._c, data, len(data), top_k, out, n))
        rows = [[] for _ in range(n and out[n - 1].mask + 1)]
        for f in out:
            rows[f.mask].append((self.detokenize([f.id]), f.score))
        return rows

    def embed_text(self, texts, adapters=None, **options):
        """Embeddings of texts, [len(texts)][dim]; options: pool ("mean", "cls", "last",
        "weighted"), normalize (1, -1), prefix, max_len, batch, and depths: so many layers' one
        after the other, the output's last.  By default as the folder says.
        `adapters` as in classify()."""
        opts = _options(_api.EmbedOpts, options)
        dim = self.info.dim * max(opts.depths, 1)
        who = _texts(adapters)
        opts.adapters = _pointer(who)
        data, to = _floats(len(texts) * dim)
        _check(lib.peft_embed_text(self._c, _texts(texts), len(texts), ctypes.byref(opts), to))
        return memoryview(data).cast("B").cast("f", [len(texts), dim])

    def _generate(self, prompt, on_piece, options):
        messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        items = (_api.Message * len(messages))(
            *[_api.Message(role=_bytes(m["role"]), content=_bytes(m["content"]))
              for m in messages])
        raised = []

        def on_text(_ctx, piece, n):
            try:
                return 1 if on_piece(ctypes.string_at(piece, n).decode()) else 0
            except BaseException as error:  # Ctrl-C too: it must not be lost in C
                raised.append(error)
                return 1

        callback = _api.OnText(on_text)
        stop = options.pop("stop", None) or []
        texts = _texts([stop] if isinstance(stop, str) else stop)
        opts = _options(_api.GenerateOpts, options)
        opts.stop, opts.n_stop = ctypes.cast(texts, ctypes.c_void_p), len(texts or ())
        opts.on_text = ctypes.cast(callback, ctypes.c_void_p)
        out = _api.Generated()
        rc = lib.peft_generate(self._c, items, len(messages), ctypes.byref(opts), ctypes.byref(out))
        if raised:
            raise raised[0]
        _check(rc)
        return out

    def generate(self, prompt, **options):
        """The answer to a prompt, or to messages [{"role", "content"}, ...].
        Options: max_tokens, temperature, top_k, top_p, min_p, seed, stop, raw,
        num_beams, length_penalty, early_stopping (0, 1, or 2 for "never")."""
        pieces = []
        self._generate(prompt, pieces.append, options)
        return "".join(pieces)

    def generate_ids(self, ids, **options):
        """The same from token ids to token ids, without a tokenizer."""
        opts = _options(_api.GenerateOpts, options)
        n = opts.max_tokens or 256
        to = (ctypes.c_int32 * n)()
        n = _check(lib.peft_generate_ids(self._c, _ids(ids), len(ids), ctypes.byref(opts), to, n,
                                         None))
        return list(to[:n])

    def generate_batch(self, prompts, adapters=None, batch=0, **options):
        """The answers to several prompts at once, texts or lists of messages; `adapters`: the
        name of each one's, "" = none, None = those enabled; options as in generate()."""
        adapters = adapters or [None] * len(prompts)
        stop = options.pop("stop", None) or []
        texts = _texts([stop] if isinstance(stop, str) else stop)
        pieces, kept, requests = [[] for _ in prompts], [], []

        def listener(to):
            def on_text(_ctx, piece, n):
                to.append(ctypes.string_at(piece, n))
                return 0
            return _api.OnText(on_text)

        for prompt, adapter, to in zip(prompts, adapters, pieces):
            messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
            items = (_api.Message * len(messages))(
                *[_api.Message(role=_bytes(m["role"]), content=_bytes(m["content"]))
                  for m in messages])
            opts, callback = _options(_api.GenerateOpts, options), listener(to)
            opts.stop, opts.n_stop = _pointer(texts), len(texts or ())
            opts.on_text = _pointer(callback)
            kept.append((items, opts, callback))
            requests.append(_api.Request(messages=_pointer(items), n=len(messages),
                                         adapter=adapter if adapter is None else adapter.encode(),
                                         opts=_pointer(ctypes.pointer(opts))))
        array_of = (_api.Request * len(requests))(*requests)
        _check(lib.peft_generate_batch(self._c, array_of, len(requests), batch))
        return [b"".join(p).decode() for p in pieces]

    def forward_batch(self, ids, adapters=None):
        """The logits of several sequences of ids, one flat array of floats: [tokens][vocab] of
        all of them, or [len(ids)][labels] with a head for whole texts."""
        info, lengths = self.info, [len(row) for row in ids]
        rows = len(ids) if info.labels and not info.each_token else sum(lengths)
        data, to = _floats(rows * info.outputs)
        who = _texts(adapters)
        _check(lib.peft_forward_batch(self._c, _ids([i for row in ids for i in row]),
                                      _ids(lengths), len(ids), who, to))
        return data

    def logprob(self, ids, start):
        """log p of the ids from number `start` on, given those before, and how many of them
        were the likeliest."""
        logp, right = ctypes.c_double(), ctypes.c_int32()
        _check(lib.peft_logprob(self._c, _ids(ids), _ids([len(ids)]), _ids([start]), 1,
                                ctypes.byref(logp), ctypes.byref(right)))
        return logp.value, right.value

    def logprob_next(self, ids, candidates):
        """log p of each candidate as the token that follows the ids."""
        logp = (ctypes.c_double * len(candidates))()
        _check(lib.peft_logprob_next(self._c, _ids(ids), len(ids), _ids(candidates),
                                     len(candidates), logp))
        return list(logp)

    def stream(self, prompt, **options):
        """As generate(), piece by piece.  The model is busy until the iterator
        is at its end or closed."""
        pieces, stop = queue.Queue(), threading.Event()

        def on_piece(piece):
            pieces.put(piece)
            return stop.is_set()

        def work():
            try:
                self._generate(prompt, on_piece, options)
                pieces.put(None)
            except BaseException as error:
                pieces.put(error)

        worker = threading.Thread(target=work, daemon=True)
        worker.start()
        try:
            while (piece := pieces.get()) is not None:
                if isinstance(piece, BaseException):
                    raise piece
                yield piece
        finally:
            stop.set()
            worker.join()
