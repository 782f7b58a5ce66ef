unity-all: lib/all.c lib/base/buf.c lib/base/base.h include/peft.h \
 lib/base/error.h lib/base/mem.h lib/base/buf.h lib/base/map.h \
 lib/base/json.h lib/base/host.h lib/base/base.h lib/base/cpu.c \
 lib/base/cpu.h lib/base/pool.h lib/base/error.c lib/base/file_read.c \
 lib/base/file.h lib/base/file_write.c lib/base/host.c lib/base/json.c \
 /usr/include/cjson/cJSON.h lib/base/map.c lib/base/mem.c lib/base/opts.c \
 lib/base/opts.h lib/base/pool.c lib/base/posix.c lib/base/posix_info.c \
 lib/base/rng.c lib/base/rng.h lib/base/sha256.c lib/base/sha256.h \
 lib/base/host.h lib/base/windows.c lib/kernel/attn.c \
 lib/kernel/attn_few.h lib/kernel/level.h lib/kernel/kernel.h \
 lib/kernel/quant.h lib/kernel/tile.h lib/kernel/attn_few.c \
 lib/kernel/blas.c lib/kernel/sgemm.h lib/kernel/cayley.c \
 lib/kernel/compute.c lib/kernel/decode.c lib/kernel/decode.h \
 lib/kernel/unpack.h lib/kernel/gemm.c lib/kernel/kernels.c \
 lib/kernel/lstm.c lib/kernel/pack.c lib/kernel/pack.h \
 lib/kernel/pack_4bit.c lib/kernel/pack_k.c lib/kernel/peaks.c \
 lib/kernel/quant.c lib/kernel/rownorm.c lib/kernel/sgemm.c \
 lib/graph/cost.c lib/graph/op.h lib/graph/graph.h lib/graph/ops.def \
 lib/graph/gather.c lib/graph/plan.h lib/graph/graph.c lib/graph/layout.c \
 lib/graph/live.c lib/graph/pace.c lib/graph/plan.c lib/graph/run.c \
 lib/graph/schedule.c lib/graph/op/act.c lib/graph/op/add.c \
 lib/graph/op/attention.c lib/graph/op/bce.c lib/graph/op/bias.c \
 lib/graph/op/cache.c lib/graph/op/cayley.c lib/graph/op/common.c \
 lib/graph/op/concat_cols.c lib/graph/op/concat_rows.c \
 lib/graph/op/cosent.c lib/graph/op/dot_rows.c lib/graph/op/dropout.c \
 lib/graph/op/embed.c lib/graph/op/expert.c lib/graph/op/glu.c \
 lib/graph/op/kl_head.c lib/graph/op/layernorm.c lib/graph/op/linear.c \
 lib/graph/op/linear_add.c lib/graph/op/low_rank.c lib/graph/op/lstm.c \
 lib/graph/op/magnitude.c lib/graph/op/match.c lib/graph/op/mse.c \
 lib/graph/op/mul.c lib/graph/op/pool_mean.c lib/graph/op/put_rows.c \
 lib/graph/op/rank.c lib/graph/op/reshape.c lib/graph/op/rmsnorm.c \
 lib/graph/op/rope.c lib/graph/op/rotate.c lib/graph/op/route.c \
 lib/graph/op/rows.c lib/graph/op/scale.c lib/graph/op/scale_rows.c \
 lib/graph/op/slice_cols.c lib/graph/op/slice_rows.c lib/graph/op/span.c \
 lib/graph/op/swap_cols.c lib/graph/op/swap_rows.c lib/graph/op/triplet.c \
 lib/graph/op/turn.c lib/graph/op/unit.c lib/graph/op/xent.c \
 lib/graph/op/xent_head.c lib/store/bnb.c lib/store/impl.h \
 lib/store/store.h lib/store/folder.c lib/store/gguf.c \
 lib/store/gguf_split.c lib/store/gguf_write.c lib/store/safetensors.c \
 lib/store/safetensors_write.c lib/store/settings.c lib/store/store.c \
 lib/store/write.c lib/text/added.c lib/text/tok.h lib/text/text.h \
 lib/text/unicode.h lib/text/bpe.c lib/text/charsmap.c lib/text/decode.c \
 lib/text/jinja_expr.c lib/text/jinja_node.h lib/text/jinja.h \
 lib/text/jinja_filter.c lib/text/jinja_lex.c lib/text/jinja_method.c \
 lib/text/jinja_parse.c lib/text/jinja_print.c lib/text/jinja_run.c \
 lib/text/jinja_test.c lib/text/jinja_text.c lib/text/jinja_value.c \
 lib/text/kinds.c lib/text/load_folder.c lib/text/load_gguf.c \
 lib/text/load_json.c lib/text/load_legacy.c lib/text/load_parts.c \
 lib/text/load_spm.c lib/text/normal.c lib/text/pre.c lib/text/regex.c \
 lib/text/save.c lib/text/save_gguf.c lib/text/split.c \
 lib/text/template.c lib/text/tokenizer.c lib/text/unicode.c \
 lib/text/unigram.c lib/text/vocab.c lib/text/wordpiece.c \
 lib/text/words.c lib/model/beam.c lib/model/generate.h lib/model/model.h \
 lib/model/arch.h lib/model/site.h lib/model/vision.h \
 lib/model/gen_config.c lib/model/generate.c lib/model/head.c \
 lib/model/load.h lib/model/load.c lib/model/quantise.h lib/model/rope.h \
 lib/model/nn.c lib/model/param.c lib/model/quantise.c lib/model/rope.c \
 lib/model/save.c lib/model/save.h lib/model/save_config.c \
 lib/model/scaling.c lib/model/sentence.c lib/model/serve.c \
 lib/model/settings.c lib/model/arch.def lib/model/share.c \
 lib/model/transformer.c lib/model/virtual.c lib/model/vision.c \
 lib/model/arch/bert.c lib/model/arch/rows.h lib/model/arch/bloom.c \
 lib/model/arch/distilbert.c lib/model/arch/falcon.c \
 lib/model/arch/gemma.c lib/model/arch/gpt2.c lib/model/arch/gpt_neox.c \
 lib/model/arch/llama.c lib/model/arch/modernbert.c \
 lib/model/arch/olmo2.c lib/model/arch/opt.c lib/model/arch/phi.c \
 lib/model/arch/phi3.c lib/model/arch/roberta.c \
 lib/model/arch/starcoder2.c lib/model/arch/t5.c lib/model/arch/vit.c \
 lib/adapt/adapt.c lib/adapt/io.h lib/adapt/virtual.h lib/adapt/adapt.h \
 lib/adapt/methods.def lib/adapt/base.c lib/adapt/card.c \
 lib/adapt/combine.c lib/adapt/facts.c lib/adapt/readers.h \
 lib/adapt/fold.c lib/adapt/foreign.c lib/adapt/format_gguf.c \
 lib/adapt/format_mlx.c lib/adapt/fused.c lib/adapt/io.c \
 lib/adapt/loftq.c lib/adapt/lowrank.c lib/adapt/merge.c \
 lib/adapt/ranks.c lib/adapt/readers.c lib/adapt/settings.c \
 lib/adapt/tokens.c lib/adapt/virtual.c lib/adapt/write.c \
 lib/adapt/method/adalora.c lib/adapt/method/ia3.c lib/adapt/method/ln.c \
 lib/adapt/method/loha.c lib/adapt/method/lokr.c lib/adapt/method/lora.c \
 lib/adapt/method/oft.c lib/adapt/method/prefix.c \
 lib/adapt/method/prompt.c lib/adapt/method/ptuning.c \
 lib/adapt/method/tokens.c lib/adapt/method/vera.c lib/data/augment.c \
 lib/data/image.h lib/data/data.h lib/data/batch.c lib/data/row.h \
 lib/data/csv.c lib/data/source.h lib/data/dataset.c lib/data/encode.c \
 lib/data/image.c lib/data/jpeg.c lib/data/labels.c lib/data/picture.c \
 lib/data/pictures.c lib/data/png.c /usr/include/libpng16/png.h \
 /usr/include/libpng16/pnglibconf.h /usr/include/libpng16/pngconf.h \
 lib/data/resample.c lib/data/schema.c lib/data/schema_embed.c \
 lib/data/schema_task.c lib/data/seq2seq.c lib/data/source.c \
 lib/train/anchor.c lib/train/train.h lib/train/prefix.h \
 lib/train/answer.c lib/train/budget.c lib/train/card.c \
 lib/train/checkpoint.c lib/train/compare.c lib/train/quantise.h \
 lib/train/dynamic.c lib/train/eva.c lib/train/eval.c \
 lib/train/eval_row.c lib/train/metric.c lib/train/objective.c \
 lib/train/predict.c lib/train/prefix.c lib/train/prefix_file.c \
 lib/train/retrieve.c lib/train/sched.c lib/train/setup.c \
 lib/train/states.c lib/train/trainer.c lib/train/objective/classify.c \
 lib/train/objective/embed.c lib/train/objective/lm.c \
 lib/train/objective/reward.c lib/train/objective/span.c \
 lib/train/objective/tokens.c lib/train/optim/adamw.c lib/api/adapter.c \
 lib/api/api.h lib/api/batch.c lib/api/infer.h lib/api/common.c \
 lib/api/convert.c lib/api/dataset.c lib/api/error.c lib/api/image.c \
 lib/api/infer.c lib/api/list.c lib/api/locate.c lib/api/model.c \
 lib/api/profile.c lib/api/quantise.c lib/api/text.c lib/api/train.c
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
lib/base/opts.c:
lib/base/opts.h:
lib/base/pool.c:
lib/base/posix.c:
lib/base/posix_info.c:
lib/base/rng.c:
lib/base/rng.h:
lib/base/sha256.c:
lib/base/sha256.h:
lib/base/host.h:
lib/base/windows.c:
lib/kernel/attn.c:
lib/kernel/attn_few.h:
lib/kernel/level.h:
lib/kernel/kernel.h:
lib/kernel/quant.h:
lib/kernel/tile.h:
lib/kernel/attn_few.c:
lib/kernel/blas.c:
lib/kernel/sgemm.h:
lib/kernel/cayley.c:
lib/kernel/compute.c:
lib/kernel/decode.c:
lib/kernel/decode.h:
lib/kernel/unpack.h:
lib/kernel/gemm.c:
lib/kernel/kernels.c:
lib/kernel/lstm.c:
lib/kernel/pack.c:
lib/kernel/pack.h:
lib/kernel/pack_4bit.c:
lib/kernel/pack_k.c:
lib/kernel/peaks.c:
lib/kernel/quant.c:
lib/kernel/rownorm.c:
lib/kernel/sgemm.c:
lib/graph/cost.c:
lib/graph/op.h:
lib/graph/graph.h:
lib/graph/ops.def:
lib/graph/gather.c:
lib/graph/plan.h:
lib/graph/graph.c:
lib/graph/layout.c:
lib/graph/live.c:
lib/graph/pace.c:
lib/graph/plan.c:
lib/graph/run.c:
lib/graph/schedule.c:
lib/graph/op/act.c:
lib/graph/op/add.c:
lib/graph/op/attention.c:
lib/graph/op/bce.c:
lib/graph/op/bias.c:
lib/graph/op/cache.c:
lib/graph/op/cayley.c:
lib/graph/op/common.c:
lib/graph/op/concat_cols.c:
lib/graph/op/concat_rows.c:
lib/graph/op/cosent.c:
lib/graph/op/dot_rows.c:
lib/graph/op/dropout.c:
lib/graph/op/embed.c:
lib/graph/op/expert.c:
lib/graph/op/glu.c:
lib/graph/op/kl_head.c:
lib/graph/op/layernorm.c:
lib/graph/op/linear.c:
lib/graph/op/linear_add.c:
lib/graph/op/low_rank.c:
lib/graph/op/lstm.c:
lib/graph/op/magnitude.c:
lib/graph/op/match.c:
lib/graph/op/mse.c:
lib/graph/op/mul.c:
lib/graph/op/pool_mean.c:
lib/graph/op/put_rows.c:
lib/graph/op/rank.c:
lib/graph/op/reshape.c:
lib/graph/op/rmsnorm.c:
lib/graph/op/rope.c:
lib/graph/op/rotate.c:
lib/graph/op/route.c:
lib/graph/op/rows.c:
lib/graph/op/scale.c:
lib/graph/op/scale_rows.c:
lib/graph/op/slice_cols.c:
lib/graph/op/slice_rows.c:
lib/graph/op/span.c:
lib/graph/op/swap_cols.c:
lib/graph/op/swap_rows.c:
lib/graph/op/triplet.c:
lib/graph/op/turn.c:
lib/graph/op/unit.c:
lib/graph/op/xent.c:
lib/graph/op/xent_head.c:
lib/store/bnb.c:
lib/store/impl.h:
lib/store/store.h:
lib/store/folder.c:
lib/store/gguf.c:
lib/store/gguf_split.c:
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
lib/text/charsmap.c:
lib/text/decode.c:
lib/text/jinja_expr.c:
lib/text/jinja_node.h:
lib/text/jinja.h:
lib/text/jinja_filter.c:
lib/text/jinja_lex.c:
lib/text/jinja_method.c:
lib/text/jinja_parse.c:
lib/text/jinja_print.c:
lib/text/jinja_run.c:
lib/text/jinja_test.c:
lib/text/jinja_text.c:
lib/text/jinja_value.c:
lib/text/kinds.c:
lib/text/load_folder.c:
lib/text/load_gguf.c:
lib/text/load_json.c:
lib/text/load_legacy.c:
lib/text/load_parts.c:
lib/text/load_spm.c:
lib/text/normal.c:
lib/text/pre.c:
lib/text/regex.c:
lib/text/save.c:
lib/text/save_gguf.c:
lib/text/split.c:
lib/text/template.c:
lib/text/tokenizer.c:
lib/text/unicode.c:
lib/text/unigram.c:
lib/text/vocab.c:
lib/text/wordpiece.c:
lib/text/words.c:
lib/model/beam.c:
lib/model/generate.h:
lib/model/model.h:
lib/model/arch.h:
lib/model/site.h:
lib/model/vision.h:
lib/model/gen_config.c:
lib/model/generate.c:
lib/model/head.c:
lib/model/load.h:
lib/model/load.c:
lib/model/quantise.h:
lib/model/rope.h:
lib/model/nn.c:
lib/model/param.c:
lib/model/quantise.c:
lib/model/rope.c:
lib/model/save.c:
lib/model/save.h:
lib/model/save_config.c:
lib/model/scaling.c:
lib/model/sentence.c:
lib/model/serve.c:
lib/model/settings.c:
lib/model/arch.def:
lib/model/share.c:
lib/model/transformer.c:
lib/model/virtual.c:
lib/model/vision.c:
lib/model/arch/bert.c:
lib/model/arch/rows.h:
lib/model/arch/bloom.c:
lib/model/arch/distilbert.c:
lib/model/arch/falcon.c:
lib/model/arch/gemma.c:
lib/model/arch/gpt2.c:
lib/model/arch/gpt_neox.c:
lib/model/arch/llama.c:
lib/model/arch/modernbert.c:
lib/model/arch/olmo2.c:
lib/model/arch/opt.c:
lib/model/arch/phi.c:
lib/model/arch/phi3.c:
lib/model/arch/roberta.c:
lib/model/arch/starcoder2.c:
lib/model/arch/t5.c:
lib/model/arch/vit.c:
lib/adapt/adapt.c:
lib/adapt/io.h:
lib/adapt/virtual.h:
lib/adapt/adapt.h:
lib/adapt/methods.def:
lib/adapt/base.c:
lib/adapt/card.c:
lib/adapt/combine.c:
lib/adapt/facts.c:
lib/adapt/readers.h:
lib/adapt/fold.c:
lib/adapt/foreign.c:
lib/adapt/format_gguf.c:
lib/adapt/format_mlx.c:
lib/adapt/fused.c:
lib/adapt/io.c:
lib/adapt/loftq.c:
lib/adapt/lowrank.c:
lib/adapt/merge.c:
lib/adapt/ranks.c:
lib/adapt/readers.c:
lib/adapt/settings.c:
lib/adapt/tokens.c:
lib/adapt/virtual.c:
lib/adapt/write.c:
lib/adapt/method/adalora.c:
lib/adapt/method/ia3.c:
lib/adapt/method/ln.c:
lib/adapt/method/loha.c:
lib/adapt/method/lokr.c:
lib/adapt/method/lora.c:
lib/adapt/method/oft.c:
lib/adapt/method/prefix.c:
lib/adapt/method/prompt.c:
lib/adapt/method/ptuning.c:
lib/adapt/method/tokens.c:
lib/adapt/method/vera.c:
lib/data/augment.c:
lib/data/image.h:
lib/data/data.h:
lib/data/batch.c:
lib/data/row.h:
lib/data/csv.c:
lib/data/source.h:
lib/data/dataset.c:
lib/data/encode.c:
lib/data/image.c:
lib/data/jpeg.c:
lib/data/labels.c:
lib/data/picture.c:
lib/data/pictures.c:
lib/data/png.c:
/usr/include/libpng16/png.h:
/usr/include/libpng16/pnglibconf.h:
/usr/include/libpng16/pngconf.h:
lib/data/resample.c:
lib/data/schema.c:
lib/data/schema_embed.c:
lib/data/schema_task.c:
lib/data/seq2seq.c:
lib/data/source.c:
lib/train/anchor.c:
lib/train/train.h:
lib/train/prefix.h:
lib/train/answer.c:
lib/train/budget.c:
lib/train/card.c:
lib/train/checkpoint.c:
lib/train/compare.c:
lib/train/quantise.h:
lib/train/dynamic.c:
lib/train/eva.c:
lib/train/eval.c:
lib/train/eval_row.c:
lib/train/metric.c:
lib/train/objective.c:
lib/train/predict.c:
lib/train/prefix.c:
lib/train/prefix_file.c:
lib/train/retrieve.c:
lib/train/sched.c:
lib/train/setup.c:
lib/train/states.c:
lib/train/trainer.c:
lib/train/objective/classify.c:
lib/train/objective/embed.c:
lib/train/objective/lm.c:
lib/train/objective/reward.c:
lib/train/objective/span.c:
lib/train/objective/tokens.c:
lib/train/optim/adamw.c:
lib/api/adapter.c:
lib/api/api.h:
lib/api/batch.c:
lib/api/infer.h:
lib/api/common.c:
lib/api/convert.c:
lib/api/dataset.c:
lib/api/error.c:
lib/api/image.c:
lib/api/infer.c:
lib/api/list.c:
lib/api/locate.c:
lib/api/model.c:
lib/api/profile.c:
lib/api/quantise.c:
lib/api/text.c:
lib/api/train.c:
