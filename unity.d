unity: lib/all.c lib/base/buf.c lib/base/base.h include/peft.h \
 lib/base/error.h lib/base/mem.h lib/base/buf.h lib/base/map.h \
 lib/base/json.h lib/base/host.h lib/base/base.h lib/base/cpu.c \
 lib/base/cpu.h lib/base/pool.h lib/base/error.c lib/base/file_read.c \
 lib/base/file.h lib/base/file_write.c lib/base/host.c lib/base/json.c \
 /usr/include/cjson/cJSON.h lib/base/map.c lib/base/mem.c lib/base/pool.c \
 lib/base/posix.c lib/base/posix_info.c lib/base/rng.c lib/base/rng.h \
 lib/base/windows.c lib/kernel/attn.c lib/kernel/level.h \
 lib/kernel/kernel.h lib/kernel/quant.h lib/kernel/blas.c \
 lib/kernel/sgemm.h lib/kernel/compute.c lib/kernel/gemm.c \
 lib/kernel/tile.h lib/kernel/kernels.c lib/kernel/quant.c \
 lib/kernel/unpack.h lib/graph/graph.c lib/graph/plan.h lib/base/host.h \
 lib/graph/op.h lib/graph/graph.h lib/graph/ops.def lib/graph/layout.c \
 lib/graph/live.c lib/graph/plan.c lib/graph/run.c lib/graph/schedule.c \
 lib/graph/op/act.c lib/graph/op/add.c lib/graph/op/attention.c \
 lib/graph/op/bias.c lib/graph/op/cache.c lib/graph/op/common.c \
 lib/graph/op/concat_cols.c lib/graph/op/concat_rows.c \
 lib/graph/op/dropout.c lib/graph/op/embed.c lib/graph/op/glu.c \
 lib/graph/op/layernorm.c lib/graph/op/linear.c lib/graph/op/linear_add.c \
 lib/graph/op/mse.c lib/graph/op/mul.c lib/graph/op/pool_mean.c \
 lib/graph/op/reshape.c lib/graph/op/rmsnorm.c lib/graph/op/rope.c \
 lib/graph/op/rows.c lib/graph/op/scale.c lib/graph/op/slice_cols.c \
 lib/graph/op/xent.c lib/graph/op/xent_head.c lib/store/folder.c \
 lib/store/impl.h lib/store/store.h lib/store/gguf.c \
 lib/store/gguf_write.c lib/store/safetensors.c \
 lib/store/safetensors_write.c lib/store/settings.c lib/store/store.c \
 lib/store/write.c lib/text/added.c lib/text/tok.h lib/text/text.h \
 lib/text/unicode.h lib/text/bpe.c lib/text/decode.c \
 lib/text/load_folder.c lib/text/load_gguf.c lib/text/load_json.c \
 lib/text/load_legacy.c lib/text/load_parts.c lib/text/normal.c \
 lib/text/pre.c lib/text/save.c lib/text/save_gguf.c lib/text/split.c \
 lib/text/template.c lib/text/tokenizer.c lib/text/unicode.c \
 lib/text/vocab.c lib/text/wordpiece.c lib/model/generate.c \
 lib/model/model.h lib/model/arch.h lib/model/site.h lib/model/head.c \
 lib/model/load.c lib/model/arch.def lib/model/nn.c lib/model/param.c \
 lib/model/rope.c lib/model/save.c lib/model/transformer.c \
 lib/model/arch/bert.c lib/model/arch/llama.c lib/adapt/adapt.c \
 lib/adapt/adapt.h lib/adapt/methods.def lib/adapt/io.c \
 lib/adapt/method/lora.c lib/data/batch.c lib/data/row.h lib/data/data.h \
 lib/data/dataset.c lib/data/encode.c lib/data/labels.c lib/data/schema.c \
 lib/data/source.c lib/train/checkpoint.c lib/train/train.h \
 lib/train/eval.c lib/train/features.c lib/train/sched.c \
 lib/train/setup.c lib/train/trainer.c lib/train/objective/classify.c \
 lib/train/objective/lm.c lib/train/optim/adamw.c lib/api/adapter.c \
 lib/api/api.h lib/api/common.c lib/api/dataset.c lib/api/error.c \
 lib/api/model.c lib/api/text.c lib/api/train.c
lib/base/buf.c:
lib/base/base.h:
include/peft.h:
lib/base/error.h:
lib/base/mem.h:
lib/base/buf.h:
lib/base/map.h:
lib/base/json.h:
lib/base/host.h:
lib/base/base.h:
lib/base/cpu.c:
lib/base/cpu.h:
lib/base/pool.h:
lib/base/error.c:
lib/base/file_read.c:
lib/base/file.h:
lib/base/file_write.c:
lib/base/host.c:
lib/base/json.c:
/usr/include/cjson/cJSON.h:
lib/base/map.c:
lib/base/mem.c:
lib/base/pool.c:
lib/base/posix.c:
lib/base/posix_info.c:
lib/base/rng.c:
lib/base/rng.h:
lib/base/windows.c:
lib/kernel/attn.c:
lib/kernel/level.h:
lib/kernel/kernel.h:
lib/kernel/quant.h:
lib/kernel/blas.c:
lib/kernel/sgemm.h:
lib/kernel/compute.c:
lib/kernel/gemm.c:
lib/kernel/tile.h:
lib/kernel/kernels.c:
lib/kernel/quant.c:
lib/kernel/unpack.h:
lib/graph/graph.c:
lib/graph/plan.h:
lib/base/host.h:
lib/graph/op.h:
lib/graph/graph.h:
lib/graph/ops.def:
lib/graph/layout.c:
lib/graph/live.c:
lib/graph/plan.c:
lib/graph/run.c:
lib/graph/schedule.c:
lib/graph/op/act.c:
lib/graph/op/add.c:
lib/graph/op/attention.c:
lib/graph/op/bias.c:
lib/graph/op/cache.c:
lib/graph/op/common.c:
lib/graph/op/concat_cols.c:
lib/graph/op/concat_rows.c:
lib/graph/op/dropout.c:
lib/graph/op/embed.c:
lib/graph/op/glu.c:
lib/graph/op/layernorm.c:
lib/graph/op/linear.c:
lib/graph/op/linear_add.c:
lib/graph/op/mse.c:
lib/graph/op/mul.c:
lib/graph/op/pool_mean.c:
lib/graph/op/reshape.c:
lib/graph/op/rmsnorm.c:
lib/graph/op/rope.c:
lib/graph/op/rows.c:
lib/graph/op/scale.c:
lib/graph/op/slice_cols.c:
lib/graph/op/xent.c:
lib/graph/op/xent_head.c:
lib/store/folder.c:
lib/store/impl.h:
lib/store/store.h:
lib/store/gguf.c:
lib/store/gguf_write.c:
lib/store/safetensors.c:
lib/store/safetensors_write.c:
lib/store/settings.c:
lib/store/store.c:
lib/store/write.c:
lib/text/added.c:
lib/text/tok.h:
lib/text/text.h:
lib/text/unicode.h:
lib/text/bpe.c:
lib/text/decode.c:
lib/text/load_folder.c:
lib/text/load_gguf.c:
lib/text/load_json.c:
lib/text/load_legacy.c:
lib/text/load_parts.c:
lib/text/normal.c:
lib/text/pre.c:
lib/text/save.c:
lib/text/save_gguf.c:
lib/text/split.c:
lib/text/template.c:
lib/text/tokenizer.c:
lib/text/unicode.c:
lib/text/vocab.c:
lib/text/wordpiece.c:
lib/model/generate.c:
lib/model/model.h:
lib/model/arch.h:
lib/model/site.h:
lib/model/head.c:
lib/model/load.c:
lib/model/arch.def:
lib/model/nn.c:
lib/model/param.c:
lib/model/rope.c:
lib/model/save.c:
lib/model/transformer.c:
lib/model/arch/bert.c:
lib/model/arch/llama.c:
lib/adapt/adapt.c:
lib/adapt/adapt.h:
lib/adapt/methods.def:
lib/adapt/io.c:
lib/adapt/method/lora.c:
lib/data/batch.c:
lib/data/row.h:
lib/data/data.h:
lib/data/dataset.c:
lib/data/encode.c:
lib/data/labels.c:
lib/data/schema.c:
lib/data/source.c:
lib/train/checkpoint.c:
lib/train/train.h:
lib/train/eval.c:
lib/train/features.c:
lib/train/sched.c:
lib/train/setup.c:
lib/train/trainer.c:
lib/train/objective/classify.c:
lib/train/objective/lm.c:
lib/train/optim/adamw.c:
lib/api/adapter.c:
lib/api/api.h:
lib/api/common.c:
lib/api/dataset.c:
lib/api/error.c:
lib/api/model.c:
lib/api/text.c:
lib/api/train.c:
