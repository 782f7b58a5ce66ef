"""peft.h for ctypes: the structs, the functions, and where the library is found.

The names and the order of the fields are those of peft.h.  A struct that has a
`size` fills it in itself, so `TrainOpts(lr=1e-3)` is all that a call needs.
"""
import ctypes
import ctypes.util
import os
import sys
from ctypes import (CFUNCTYPE, POINTER, c_char, c_char_p, c_double, c_float, c_int32, c_int64,
                    c_size_t, c_uint64, c_void_p)

VERSION = 100

_KINDS = {"i32": c_int32, "i64": c_int64, "u64": c_uint64, "f32": c_float, "f64": c_double,
          "size": c_size_t, "str": c_char_p, "ptr": c_void_p}


def _fields(text):
    """'lr:f32 name:char[64]' -> ctypes fields."""
    for word in text.split():
        name, kind = word.split(":")
        if kind.startswith("char["):
            yield name, c_char * int(kind[5:-1])
        elif kind.endswith("]"):
            of, n = kind[:-1].split("[")
            yield name, _KINDS[of] * int(n)
        else:
            yield name, _KINDS[kind]


def _struct(name, text):
    def __init__(self, **values):
        ctypes.Structure.__init__(self, **values)
        if hasattr(self, "size"):
            self.size = ctypes.sizeof(self)
    return type(name, (ctypes.Structure,), {"_fields_": list(_fields(text)),
                                            "__init__": __init__})


Metric = _KINDS["metric"] = _struct("Metric", "name:str value:f64")
Finding = _KINDS["finding"] = _struct("Finding", "reader:str verdict:i32 found:char[96] why:str "
                                      "fix:str")
AdapterReport = _struct("AdapterReport", "size:size method:char[32] rank:i64 tensors:i64 "
                        "n_readers:i32 readers:str[3] verdicts:i32[3] n_findings:i32 "
                        "findings:finding[48]")
ConvertOpts = _struct("ConvertOpts", "size:size reader:str format:str dtype:str merge:i32 rank:i32 "
                      "texts:ptr n_texts:i32 limit:f64")
Converted = _struct("Converted", "size:size kind:char[16] rank:i32 texts:i32 tokens:i64 "
                    "max_logit_diff:f64 weight_error:f64")
CheckOpts = _struct("CheckOpts", "size:size reader:str base:ptr host:ptr")
System = _struct("System", "size:size cpu:char[64] level:char[16] cores:i32 blas:char[160] "
                 "blas_core:char[32] advice:char[320] gflops:f64 memory_total:i64 "
                 "memory_available:i64")
Entry = _struct("Entry", "size:size name:char[32] kind:char[32] hf:char[160] gguf:char[32] "
                "about:char[160]")
LoadOpts = _struct("LoadOpts", "size:size threads:i32 no_map:i32 level:str blas:str alloc:ptr "
                   "alloc_ctx:ptr io:ptr log:ptr log_ctx:ptr quant:str compute:str any_base:i32")
SaveOpts = _struct("SaveOpts", "size:size dtype:str shard_bytes:i64 progress:ptr ctx:ptr")
Info = _struct("Info", "size:size family:char[32] name:char[96] format:char[32] types:char[96] "
               "layers:i32 dim:i32 heads:i32 kv_heads:i32 head_dim:i32 ff_dim:i32 vocab:i32 "
               "max_len:i32 labels:i32 has_tokenizer:i32 has_chat_template:i32 causal:i32 "
               "params:i64 trainable:i64 params_total:i64 weight_bytes:i64 n_tensors:i32 "
               "n_adapters:i32 bos:i32 eos:i32 pad:i32 image_height:i32 image_width:i32 "
               "channels:i32 embed_dim:i32 "
               "encoder_layers:i32 decoder_start:i32 head:char[32] outputs:i32 "
               "each_token:i32")
Param = _struct("Param", "size:size name:str type:str rows:i64 cols:i64 layer:i32 trainable:i32")
HeadOpts = _struct("HeadOpts", "size:size labels:i32 names:ptr pool:str dropout:f32 seed:u64 "
                   "kind:str")
AdapterOpts = _struct("AdapterOpts", "size:size method:str targets:str rank:i32 alpha:f32 "
                      "dropout:f32 rslora:i32 modules_to_save:str seed:u64 "
                      "target_parameters:str settings:str init:str lr_ratio:f32 "
                      "init_model:str trainable_tokens:str")
AdapterSaveOpts = _struct("AdapterSaveOpts", "size:size format:str dtype:str")
CombineOpts = _struct("CombineOpts", "size:size how:str density:f32 rank:i32 seed:u64")
Message = _struct("Message", "role:str content:str")
GenerateOpts = _struct("GenerateOpts", "size:size max_tokens:i32 temperature:f32 top_k:i32 "
                       "top_p:f32 min_p:f32 repeat_penalty:f32 seed:u64 stop:ptr n_stop:i32 "
                       "raw:i32 on_text:ptr ctx:ptr num_beams:i32 length_penalty:f32 "
                       "early_stopping:i32")
Generated = _struct("Generated", "size:size prompt_tokens:i32 tokens:i32 reason:i32 "
                    "prompt_seconds:f64 seconds:f64")
Request = _struct("Request", "size:size messages:ptr ids:ptr n:i32 adapter:str opts:ptr to:ptr "
                  "cap:i64 out:ptr")
DatasetOpts = _struct("DatasetOpts", "size:size max_len:i32 train_on_prompt:i32 system:str "
                      "limit:i32 any_path:i32 prefix:str stride:i32 label_all:i32 "
                      "columns:str table:str chunk:i64 text:ptr text_n:size "
                      "shard_rows:i64 progress:ptr ctx:ptr")
DatasetStats = _struct("DatasetStats", "size:size schema:char[32] rows:i64 tokens:i64 "
                       "trained_tokens:i64 min_len:i32 median_len:i32 mean_len:i32 p95_len:i32 "
                       "max_len:i32 truncated:i64 skipped:i64 labels:i32 head:char[32]")
Row = _struct("Row", "size:size line:i64 n:i32 ids:ptr labels:ptr label:i32 picture:str")
TrainOpts = _struct("TrainOpts", "size:size optimizer:str schedule:str lr:f32 beta1:f32 "
                    "beta2:f32 eps:f32 weight_decay:f32 no_decay:str warmup:f32 clip:f32 "
                    "batch:i32 accumulate:i32 packing:i32 max_len:i32 epochs:i32 steps:i32 "
                    "no_shuffle:i32 recompute:i32 feature_cache:i64 seed:u64 augment:str "
                    "objective:str scale:f32 margin:f32 memory_limit:i64 optimizer_states:str "
                    "cache_file:str cache_file_limit:i64 anchor:ptr anchor_weight:f32 "
                    "drift_bound:f32 manner:str")
Step = _struct("Step", "size:size step:i64 steps:i64 epoch:f64 loss:f64 grad_norm:f64 lr:f64 "
               "tokens:i64 trained_tokens:i64 tokens_seen:i64 seconds:f64 more:i32 "
               "drift:f64 drift_weight:f64")
Plan = _struct("Plan", "size:size weights:i64 trainable:i64 gradients:i64 optimizer:i64 "
               "activations:i64 scratch:i64 data:i64 features:i64 process:i64 peak:i64 "
               "evaluation:i64 steps:i64 tokens_per_step:i64 flops_per_step:f64 "
               "trainable_params:i64 total_params:i64 seconds_per_step:f64 seconds:f64 "
               "micro_batch:i32 recompute_layers:i32 memory_least:i64 choice:char[240] "
               "tokens:i64 manner:char[64] lr:f64")
Cache = _struct("Cache", "size:size what:char[96] why:str rows:i64 kept:i64 bytes:i64 "
                "memory:i64 file:i64 used:i64 made:i64")
Work = _struct("Work", "size:size name:char[32] type:char[16] inputs:i64 outputs:i64 backward:i32 "
               "half:i32 calls:i64 rows:i64 seconds:f64 flops:f64 bytes:f64")
Peaks = _struct("Peaks", "size:size gflops:f64 gflops_bf16:f64 gflops_blas:f64 gbytes:f64 "
                "kernels:char[32] kernels_bf16:char[32]")
EvaOpts = _struct("EvaOpts", "size:size rho:f32 tau:f32 whiten:i32 keep_alpha:i32 "
                  "all_tokens:i32 batch:i32 seed:u64 progress:ptr ctx:ptr")
EvalOpts = _struct("EvalOpts", "size:size batch:i32 confusion:ptr progress:ptr ctx:ptr "
                   "no_answer:f64 objective:str on_row:ptr")
EvalRow = _struct("EvalRow", "size:size row:i64 line:i64 terms:i64 right:i64 loss:f64 label:i32 "
                  "said:i32 n:i32 scores:ptr wanted:ptr labels:ptr tags:ptr chunks_right:i64 "
                  "chunks_said:i64 chunks:i64 margin:f64 exact:f64 f1:f64 answer:ptr answer_n:i64 "
                  "rank:i64")
Evaluation = _struct("Evaluation", "size:size rows:i64 tokens:i64 loss:f64 perplexity:f64 "
                     "token_accuracy:f64 accuracy:f64 f1:f64 seconds:f64 task:str "
                     "n_metrics:i32 metrics:metric[16]")
ClassifyOpts = _struct("ClassifyOpts", "size:size pairs:ptr max_len:i32 batch:i32 raw:i32 "
                       "adapters:ptr")
TagOpts = _struct("TagOpts", "size:size aggregate:str max_len:i32 all:i32")
Tag = _struct("Tag", "label:str begin:i32 end:i32 score:f32")
AnswerOpts = _struct("AnswerOpts", "size:size n_best:i32 max_answer:i32 max_len:i32 stride:i32 "
                     "no_answer:i32")
AnswerSpan = _struct("AnswerSpan", "begin:i32 end:i32 score:f32")
Filled = _struct("Filled", "mask:i32 id:i32 score:f32")
EmbedOpts = _struct("EmbedOpts", "size:size pool:str normalize:i32 max_len:i32 batch:i32 "
                    "prefix:str adapters:ptr depths:i32")
Comparison = _struct("Comparison", "size:size rows:i64 tokens:i64 kl:f64 max_logit_diff:f64 "
                     "same_token:f64 perplexity:f64 reference_perplexity:f64 cosine:f64 "
                     "seconds:f64")
QuantizeOpts = _struct("QuantizeOpts", "size:size types:str budget:i64 bits:f64 batch:i32 "
                       "gradient_bytes:i64 progress:ptr ctx:ptr")
Quantized = _struct("Quantized", "size:size bytes:i64 least:i64 kl:f64 least_kl:f64 "
                    "perplexity:f64 reference_perplexity:f64 tensors:i32 rule:char[32]")

STRUCTS = {"peft_system": System, "peft_load_opts": LoadOpts, "peft_save_opts": SaveOpts,
           "peft_info": Info, "peft_param": Param, "peft_head_opts": HeadOpts,
           "peft_adapter_opts": AdapterOpts, "peft_combine_opts": CombineOpts,
           "peft_adapter_save_opts": AdapterSaveOpts,
           "peft_finding": Finding, "peft_adapter_report": AdapterReport,
           "peft_check_opts": CheckOpts, "peft_convert_opts": ConvertOpts,
           "peft_converted": Converted, "peft_message": Message,
           "peft_generate_opts": GenerateOpts, "peft_entry": Entry, "peft_generated": Generated,
           "peft_request": Request,
           "peft_dataset_opts": DatasetOpts, "peft_dataset_stats": DatasetStats, "peft_row": Row,
           "peft_train_opts": TrainOpts, "peft_step": Step, "peft_plan": Plan,
           "peft_cache": Cache, "peft_work": Work,
           "peft_peaks": Peaks,
           "peft_eva_opts": EvaOpts, "peft_eval_opts": EvalOpts,
           "peft_eval_row": EvalRow, "peft_evaluation": Evaluation, "peft_metric": Metric,
           "peft_classify_opts": ClassifyOpts, "peft_tag_opts": TagOpts, "peft_tag": Tag,
           "peft_answer_opts": AnswerOpts, "peft_answer_span": AnswerSpan,
           "peft_filled": Filled, "peft_embed_opts": EmbedOpts,
           "peft_comparison": Comparison, "peft_quantize_opts": QuantizeOpts,
           "peft_quantized": Quantized}

OnText = CFUNCTYPE(c_int32, c_void_p, c_void_p, c_size_t)
OnRow = CFUNCTYPE(c_int32, c_void_p, POINTER(EvalRow))

# name: result, arguments.  "p" is any pointer, "s" a NUL-terminated text.
_FUNCTIONS = """
peft_version i32
peft_errname s i32
peft_errmsg s
peft_system_info i32 p
peft_model_load i32 s p p
peft_model_free - p
peft_model_save i32 p s p
peft_model_info i32 p p
peft_model_param i32 p i32 p
peft_model_read i64 p s p i64
peft_model_write i32 p s p i64
peft_freeze_layers i32 p i32 i32
peft_freeze i32 p s
peft_unfreeze i32 p s
peft_to_float i32 p s i32 p
peft_head_add i32 p p
peft_label_name s p i32
peft_adapter_add i32 p s p
peft_adapter_load i32 p s s
peft_adapter_save i32 p s s
peft_adapter_save_as i32 p s s p
peft_adapter_enable i32 p s
peft_adapter_disable i32 p s
peft_adapter_remove i32 p s
peft_adapter_merge i32 p s
peft_adapter_set_merged i32 p s i32
peft_adapter_set_weight i32 p s f32
peft_adapter_combine i32 p s p p i32 p
peft_adapter_init_eva i32 p s p p
peft_adapter_check i32 s p p
peft_adapter_convert i32 p s s p p
peft_tokenize i64 p s size i32 p i64
peft_tokenize_offsets i64 p s size i32 p p i64
peft_detokenize i64 p p i64 i32 p i64
peft_chat_render i64 p p i32 i32 p i64
peft_forward i32 p p i32 p
peft_forward_batch i32 p p p i32 p p
peft_forward_pair i32 p p i32 p i32 p
peft_embed i32 p p i32 i32 p
peft_forward_pixels i32 p p i32 p
peft_embed_pixels i32 p p i32 i32 p
peft_image_read i32 p s p size p
peft_classify_image i32 p s p size p
peft_embed_image i32 p s p size i32 p
peft_generate_defaults i32 p p
peft_generate i32 p p i32 p p
peft_generate_ids i64 p p i32 p p i64 p
peft_generate_batch i32 p p i32 i32
peft_classify i32 p p i32 p p p
peft_tag_text i64 p s size p p i64
peft_answer i32 p s s p p i32
peft_fill_mask i64 p s size i32 p i64
peft_embed_text i32 p p i32 p p
peft_list i32 s i32 p
peft_dataset_load i32 p s p p
peft_dataset_prepare i32 p s p s p
peft_dataset_free - p
peft_dataset_split i32 p f64 u64 p
peft_dataset_subset i32 p p i64 p
peft_dataset_mix i32 p p i64 u64 p
peft_dataset_info i32 p p
peft_dataset_label s p i32
peft_dataset_row i32 p i64 p
peft_trainer_new i32 p p p p
peft_trainer_free - p
peft_trainer_plan i32 p p
peft_trainer_cache i32 p p
peft_trainer_profile i32 p i32
peft_trainer_work i32 p i32 p
peft_model_peaks i32 p p
peft_train_step i32 p p
peft_train_run_for i32 p i64 p
peft_trainer_cancel i32 p
peft_trainer_save i32 p s
peft_trainer_resume i32 p s
peft_trainer_keep i32 p
peft_trainer_back i32 p
peft_eval i32 p p p p
peft_logprob i32 p p p p i32 p p
peft_logprob_next i32 p p i32 p i32 p
peft_compare i32 p p p p p
peft_quantize i32 p p p p
"""


def _candidates():
    here = os.path.dirname(os.path.abspath(__file__))
    name = "libpeft.dylib" if sys.platform == "darwin" else "libpeft.so"
    if os.environ.get("LIBPEFT_LIBRARY"):
        return [os.environ["LIBPEFT_LIBRARY"]]
    paths = [os.path.join(here, name),
             os.path.join(here, "..", "..", "..", "build", "release", name)]
    found = [p for p in paths if os.path.exists(p)]
    return found or [ctypes.util.find_library("peft") or name]


def bind(library, functions):
    """Declares the functions of a library: a line each, name, result and arguments."""
    kinds = dict(_KINDS, p=c_void_p, s=c_char_p)
    kinds["-"] = None
    for line in functions.split("\n"):
        if line:
            name, result, *arguments = line.split()
            function = getattr(library, name)
            function.restype = kinds[result]
            function.argtypes = [kinds[a] for a in arguments]
    return library


PATH = _candidates()[0]


def _load():
    try:
        library = bind(ctypes.CDLL(PATH), _FUNCTIONS)
    except OSError as error:
        raise ImportError("libpeft cannot be loaded (%s); build it with `make`, or name it in "
                          "LIBPEFT_LIBRARY" % error) from None
    version = library.peft_version()
    if version // 100 != VERSION // 100:
        raise ImportError("%s is version %d, this module is for %d" % (PATH, version, VERSION))
    return library


lib = _load()
