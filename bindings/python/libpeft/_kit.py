"""peft_data.h and peft_judge.h for ctypes, as _api.py is for peft.h."""
import ctypes
import os
import sys
from ctypes import CFUNCTYPE, POINTER, c_double, c_float, c_int32, c_int64, c_void_p

from . import _api
from ._api import _KINDS, _struct

_KINDS.update({"text%d" % n: ctypes.c_char * n for n in (64,)})

# peft_data.h
SourceOpts = _struct("SourceOpts", "size:size columns:str table:str chunk:i64 limit:i64 "
                     "threads:i32 host:ptr progress:ptr ctx:ptr")
LabelOpts = _struct("LabelOpts", "size:size labels:str by:str source:ptr")
LabelRow = _struct("LabelRow", "size:size row:i64 line:i64 text:str given:str likely:str "
                   "labelled:i64 skipped:i64 rows:i64")
AgreePair = _struct("AgreePair", "size:size a:i32 b:i32 rows:i64 agreement:f64 kappa:f64 "
                    "n_labels:i32 labels:ptr confusion:ptr")
AgreeRow = _struct("AgreeRow", "size:size line:i64 text:str n:i32 labels:ptr majority:str")
AgreeOpts = _struct("AgreeOpts", "size:size out:str least:i32 source:ptr on_pair:ptr on_row:ptr "
                    "ctx:ptr")
Agreement = _struct("Agreement", "size:size rows:i64 shared:i64 all:i64 same:i64 ties:i64 "
                    "written:i64 labels:i32 percent:f64 fleiss:f64")
LabelCheck = _struct("LabelCheck", "likely:i32 flagged:i32 confidence:f32 margin:f32")
LabelFault = _struct("LabelFault", "size:size rank:i64 line:i64 text:str given:str likely:str "
                     "confidence:f64 likely_confidence:f64 margin:f64 flagged:i32 suspect:i32 "
                     "n_missing:i32 n_wrong:i32 missing:ptr wrong:ptr")
FaultsOpts = _struct("FaultsOpts", "size:size folds:i32 rank:str share:f64 l2:f64 seed:u64 "
                     "pool:str max_len:i32 batch:i32 out:str clean:str source:ptr on_fault:ptr "
                     "ctx:ptr tune:i32")
Faults = _struct("Faults", "size:size rows:i64 unlabelled:i64 flagged:i64 suspects:i64 labels:i32 "
                 "accuracy:f64 l2:f64 several:i32 rare:i32")
SplitOpts = _struct("SplitOpts", "size:size source:ptr ratio:f64[3] stratify:str group:str "
                    "group_text:i32 overwrite:i32 seed:u64 on_class:ptr ctx:ptr "
                    "memory:i64")
Split = _struct("Split", "size:size rows:i64[3] groups:i64[3] classes:i64 scarce:i64 shared:i64")
Cell = _struct("Cell", "text:str number:f64")
Table = _struct("Table", "size:size name:str title:str kind:i32 n_columns:i32 n_rows:i64 "
                "columns:ptr cells:ptr")
InspectOpts = _struct("InspectOpts", "size:size source:ptr model:ptr max_len:i32 examples:i32 "
                      "seed:u64")
DataConvertOpts = _struct("DataConvertOpts", "size:size source:ptr to:str from:str layout:str "
                          "skip:i32 drop:i32 overwrite:i32")
DataConverted = _struct("DataConverted", "size:size from:char[24] read:i64 rows:i64 skipped:i64 "
                        "kept:i64 columns:char[128] restored:i64 stale:i64")
NormalizeOpts = _struct("NormalizeOpts", "size:size source:ptr form:str rules:str repeated:f64")
CleanOpts = _struct("CleanOpts", "size:size source:ptr actions:str against:str dropped:str "
                    "near:f64 shingle:i32 min_chars:i64 max_chars:i64 model:ptr min_tokens:i64 "
                    "max_tokens:i64 memory:i64")
AugmentOpts = _struct("AugmentOpts", "size:size source:ptr methods:str thesaurus:str strength:f64 "
                      "share:f64 copies:i32 answers:i32 fixed:str eval:str through:ptr back:ptr "
                      "through_prompt:str back_prompt:str generate:ptr batch:i32 pictures:str "
                      "seed:u64 overwrite:i32")
Augmented = _struct("Augmented", "size:size rows:i64 added:i64 share:f64 method:str[6] "
                    "by_method:i64[6] guarded:i64 dropped:i64 unchanged:i64 broken:i64")

# peft_judge.h
Flaw = _KINDS["flaw"] = _struct("Flaw", "name:str refuses:i32 rows:i64 n:i32 lines:i64[8] "
                                "others:i64[8] max_len:i32 text:char[200]")
Checked = _struct("Checked", "size:size rows:i64 refuses:i32 n:i32 flaws:flaw[8]")
JudgeOpts = _struct("JudgeOpts", "size:size eval:ptr path:str read:ptr")
CostOpts = _struct("CostOpts", "size:size price:f64 price_hour:f64")
Cost = _struct("Cost", "size:size steps:i64 tokens:i64 trained_tokens:i64 seconds:f64 "
               "adapter_bytes:i64 model_bytes:i64 checkpoint_bytes:i64 cache_bytes:i64 price:f64")
AsideOpts = _struct("AsideOpts", "size:size share:f64 seed:u64")
Chosen = _KINDS["chosen"] = _struct("Chosen", "name:str value:char[40] given:i32 why:char[240]")
AutoOpts = _struct("AutoOpts", "size:size method:str rank:i32 last:i32 batch:i32 epochs:i32 "
                   "patience:i32 lr:f32 adapter:ptr train:ptr metric:str memory:i64 "
                   "range_steps:i32 progress:ptr ctx:ptr no_runs:i32 no_refit:i32")
Tried = _KINDS["tried"] = _struct("Tried", "method:char[32] rank:i32 last:i32 lr:f32 epochs:f64 "
                                  "value:f64 loss:f64 seconds:f64")
Choice = _struct("Choice", "size:size method:char[32] rank:i32 last:i32 batch:i32 accumulate:i32 "
                 "epochs:i32 patience:i32 lr:f32 warmup:f32 schedule:char[16] metric:char[16] "
                 "n:i32 chosen:chosen[12] n_range:i32 range_lr:f32[64] range_loss:f32[64] "
                 "n_tried:i32 tried:tried[32] seconds:f64 refit:i32")
ScoreOpts = _struct("ScoreOpts", "size:size other:ptr samples:i64 level:f64 seed:u64")
Score = _KINDS["score"] = _struct("Score", "name:str value:f64 low:f64 high:f64 other:f64 "
                                  "gain:f64 gain_low:f64 gain_high:f64 p:f64")
Scores = _struct("Scores", "size:size n:i32 scores:score[8]")
WatchOpts = _struct("WatchOpts", "size:size model:ptr metric:str patience:i32 chance:f64 "
                    "smoothing:f64 resumed:i64")
Notice = _struct("Notice", "size:size kind:str step:i64 since:i64 what:char[200] "
                 "advice:char[200]")
Watched = _struct("Watched", "size:size smooth:f64 steps:i64 evaluations:i64 best_step:i64 "
                  "best:f64 best_loss:f64 first_loss:f64 improved:i32 waited:i32 stop:i32 "
                  "n_notices:i32")
BoardOpts = _struct("BoardOpts", "size:size data:ptr shots:str question:str generate:i32 "
                    "max_tokens:i32 batch:i32 samples:i64 level:f64 seed:u64 progress:ptr "
                    "ctx:ptr")
Judged = _struct("Judged", "size:size name:str how:char[120] rows:i64 answers:i64 "
                 "prompt_tokens:i64 tokens:i64 seconds:f64 shots:i32 labels:i32")
Figure = _struct("Figure", "size:size name:str value:f64 low:f64 high:f64 lower:i32")
Versus = _struct("Versus", "size:size name:str rows:i64 value:f64 other:f64 gain:f64 low:f64 "
                 "high:f64 p:f64 verdict:i32 words:char[240]")
Prediction = _struct("Prediction", "size:size line:i64 loss:f64 terms:i64 wanted:str said:str "
                     "confidence:f64 exact:f64 f1:f64")
Trial = _KINDS["trial"] = _struct("Trial", "size:size trial:i32 rung:i32 n:i32 name:str[8] "
                                  "value:text64[8] share:f64 steps:i64 best_step:i64 loss:f64 "
                                  "value_best:f64 seconds:f64 ended:char[16] before:i32 best:i32")
TuneOpts = _struct("TuneOpts", "size:size search:str method:str last:i32 adapter:ptr train:ptr "
                   "trials:i32 seconds:f64 eta:i32 metric:str patience:i32 eval_batch:i32 "
                   "seed:u64 dir:str host:ptr on_trial:ptr progress:ptr ctx:ptr")
Tuned = _struct("Tuned", "size:size best:trial trials:i32 runs:i32 whole:i32 seconds:f64 "
                "first_loss:f64 first_value:f64 lr:f32")
Drift = _struct("Drift", "size:size kl:f64 before:f64 weight:f64")
ReceiptFile = _struct("ReceiptFile", "role:str path:str hash:char[65] bytes:i64")
ReceiptInfo = _struct("ReceiptInfo", "size:size version:str kernels:str blas:str inputs:ptr "
                      "n_inputs:i32 words:ptr n_words:i32 results:ptr n_results:i32 files:ptr "
                      "n_files:i32")

STRUCTS = {
    "peft_source_opts": SourceOpts, "peft_label_opts": LabelOpts, "peft_label_row": LabelRow,
    "peft_agree_pair": AgreePair, "peft_agree_row": AgreeRow, "peft_agree_opts": AgreeOpts,
    "peft_agreement": Agreement, "peft_label_check": LabelCheck, "peft_label_fault": LabelFault,
    "peft_faults_opts": FaultsOpts, "peft_faults": Faults, "peft_split_opts": SplitOpts,
    "peft_split": Split, "peft_cell": Cell, "peft_table": Table, "peft_inspect_opts": InspectOpts,
    "peft_data_convert_opts": DataConvertOpts, "peft_data_converted": DataConverted,
    "peft_normalize_opts": NormalizeOpts, "peft_clean_opts": CleanOpts,
    "peft_augment_opts": AugmentOpts, "peft_augmented": Augmented, "peft_flaw": Flaw,
    "peft_checked": Checked, "peft_judge_opts": JudgeOpts, "peft_cost_opts": CostOpts,
    "peft_cost": Cost, "peft_aside_opts": AsideOpts, "peft_chosen": Chosen, "peft_tried": Tried,
    "peft_auto_opts": AutoOpts, "peft_choice": Choice, "peft_score_opts": ScoreOpts,
    "peft_score": Score, "peft_scores": Scores, "peft_watch_opts": WatchOpts,
    "peft_notice": Notice, "peft_watched": Watched, "peft_board_opts": BoardOpts,
    "peft_judged": Judged, "peft_figure": Figure, "peft_versus": Versus,
    "peft_prediction": Prediction, "peft_trial": Trial, "peft_tune_opts": TuneOpts,
    "peft_tuned": Tuned, "peft_drift": Drift, "peft_receipt_file": ReceiptFile,
    "peft_receipt_info": ReceiptInfo,
}

_FUNCTIONS = """
peft_labeller_open i32 s s p p
peft_labeller_free - p
peft_labeller_label s p i32
peft_labeller_row i32 p p
peft_labeller_give i32 p s
peft_labeller_skip i32 p
peft_labeller_undo i32 p
peft_data_agree i32 p i32 p p
peft_label_faults i32 p p i64 i32 s p p
peft_data_faults i32 s p p p
peft_data_split i32 s s p p
peft_tables_at i32 p i32 p
peft_tables_find i32 p s p
peft_tables_free - p
peft_data_inspect i32 s p p
peft_data_convert i32 s s p p
peft_data_normalize i32 s s p p
peft_data_clean i32 s s p p
peft_data_augment i32 s s p p
peft_judge_check i32 p p p p
peft_judge_row i64 p p i64 s s p i64
peft_judge_cost i32 p p p p p
peft_judge_aside i32 p p p p p
peft_auto i32 p p p p p
peft_auto_apply i32 p p p
peft_score_texts i32 p p i64 p p
peft_calibration_error f64 p p i64 i32
peft_watch_new i32 p p
peft_watch_free - p
peft_watch_step i32 p p
peft_watch_eval i32 p i64 p
peft_watch_info i32 p p
peft_watch_notice i32 p i32 p
peft_metric_falls i32 s
peft_board_new i32 s p p
peft_board_free - p
peft_board_run i32 p p s i32 p
peft_board_figure i32 p i32 i32 p
peft_board_versus i32 p i32 i32 s p
peft_board_row i32 p i32 i64 p
peft_board_label s p i32
peft_board_confusion i32 p i32 p
peft_tune i32 p p p p p
peft_probe_load i32 p s p p
peft_drift_hold i32 p s p p f64 p
peft_hash_path i32 s p p
peft_receipt_write i32 s p s
peft_receipt_read i32 s p
peft_receipt_get ptr p
peft_receipt_free - p
"""

# Callbacks: what they are given, after the context.
Progress = CFUNCTYPE(c_int32, c_void_p, c_int64, c_int64)
Doing = CFUNCTYPE(c_int32, c_void_p, ctypes.c_char_p, c_int64, c_int64)
Seen = CFUNCTYPE(c_int32, c_void_p, c_void_p)
Trialed = CFUNCTYPE(c_int32, c_void_p, c_void_p, c_int64, c_int64)
Counted = CFUNCTYPE(None, c_void_p, ctypes.c_char_p, POINTER(c_int64))


def _load():
    """The library beside the other one, of which it uses the copy that is loaded."""
    name = "libpeft_kit.dylib" if sys.platform == "darwin" else "libpeft_kit.so"
    path = os.path.join(os.path.dirname(_api.PATH), name)
    path = os.environ.get("LIBPEFT_KIT_LIBRARY", path if os.path.exists(path) else name)
    try:
        kit = ctypes.CDLL(path)
    except OSError as error:
        raise ImportError("libpeft_kit cannot be loaded (%s); build it with `make`, or name it in "
                          "LIBPEFT_KIT_LIBRARY" % error) from None
    return _api.bind(kit, _FUNCTIONS)


kit = _load()
