unity-kit: lib/kit.c lib/prep/fields.c lib/prep/fields.h lib/prep/prep.h \
 lib/base/host.h lib/base/base.h include/peft.h lib/base/error.h \
 lib/base/mem.h lib/base/buf.h lib/base/map.h lib/base/json.h \
 lib/base/host.h lib/base/opts.h lib/base/pool.h lib/data/row.h \
 lib/data/data.h lib/base/rng.h lib/model/arch.h lib/kernel/kernel.h \
 lib/base/base.h lib/base/cpu.h lib/kernel/quant.h lib/store/store.h \
 lib/model/vision.h lib/text/text.h include/peft_data.h include/peft.h \
 lib/prep/flow.c lib/prep/flow.h lib/prep/inspect.c lib/prep/inspect.h \
 lib/prep/script.h lib/prep/sketch.h lib/prep/tables.h lib/prep/tally.h \
 lib/prep/inspect_row.c lib/prep/inspect_tables.c lib/prep/script.c \
 lib/text/unicode.h lib/prep/sketch.c lib/prep/tables.c lib/prep/tally.c \
 lib/judge/bootstrap.c lib/judge/figure.h lib/judge/judge.h \
 include/peft_judge.h lib/judge/overlap.c lib/train/train.h \
 lib/adapt/adapt.h lib/model/model.h lib/model/site.h lib/graph/graph.h \
 lib/train/prefix.h lib/base/sha256.h lib/judge/score.c
lib/prep/fields.c:
lib/prep/fields.h:
lib/prep/prep.h:
lib/base/host.h:
lib/base/base.h:
include/peft.h:
lib/base/error.h:
lib/base/mem.h:
lib/base/buf.h:
lib/base/map.h:
lib/base/json.h:
lib/base/host.h:
lib/base/opts.h:
lib/base/pool.h:
lib/data/row.h:
lib/data/data.h:
lib/base/rng.h:
lib/model/arch.h:
lib/kernel/kernel.h:
lib/base/base.h:
lib/base/cpu.h:
lib/kernel/quant.h:
lib/store/store.h:
lib/model/vision.h:
lib/text/text.h:
include/peft_data.h:
include/peft.h:
lib/prep/flow.c:
lib/prep/flow.h:
lib/prep/inspect.c:
lib/prep/inspect.h:
lib/prep/script.h:
lib/prep/sketch.h:
lib/prep/tables.h:
lib/prep/tally.h:
lib/prep/inspect_row.c:
lib/prep/inspect_tables.c:
lib/prep/script.c:
lib/text/unicode.h:
lib/prep/sketch.c:
lib/prep/tables.c:
lib/prep/tally.c:
lib/judge/bootstrap.c:
lib/judge/figure.h:
lib/judge/judge.h:
include/peft_judge.h:
lib/judge/overlap.c:
lib/train/train.h:
lib/adapt/adapt.h:
lib/model/model.h:
lib/model/site.h:
lib/graph/graph.h:
lib/train/prefix.h:
lib/base/sha256.h:
lib/judge/score.c:
