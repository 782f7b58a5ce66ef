# libpeft.  `make` builds the library and the `peft` command, `make test` and
# `make demo` first install what is missing (`make deps`).
#
#   MODE    release (default), asan (address and undefined), tsan, fuzz (`make fuzz`)
#   WERROR  1 = warnings are errors          V  1 = print the commands
#   PREFIX DESTDIR LIBDIR INCLUDEDIR BINDIR  where `make install` puts things
#   PYTHONDIR  if given, the Python module is installed there
#
# Objects lie in build/$(MODE)/.  Nothing depends on the processor of the
# building machine: kernels for newer processors lie in files of their own and
# are chosen at run time.

VERSION = 0.1.0
SOVERSION = 0

PREFIX ?= /usr/local
BINDIR ?= $(PREFIX)/bin
LIBDIR ?= $(PREFIX)/lib
INCLUDEDIR ?= $(PREFIX)/include

MODE ?= release
B := build/$(MODE)
# What `make test` runs its programs in.
MODES ?= release asan

ifeq ($(filter release asan tsan fuzz,$(MODE)),)
$(error MODE is "$(MODE)", expected release, asan, tsan or fuzz)
endif
OPT_release = -Os -g
OPT_asan = -O1 -g
OPT_tsan = -O1 -g
OPT_fuzz = -O1 -g
SAN_asan = -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
SAN_tsan = -fsanitize=thread
SAN_fuzz = -D__SANITIZE_ADDRESS__ -fsanitize=fuzzer-no-link,address,undefined,float-cast-overflow \
    -fno-sanitize-recover=all -fno-omit-frame-pointer -Wno-pass-failed
CFLAGS ?= $(OPT_$(MODE))

PKG_CONFIG ?= pkg-config
PKG_CFLAGS ?= $(shell $(PKG_CONFIG) --cflags libcjson libutf8proc 2>/dev/null)
PKG_LIBS ?= $(shell $(PKG_CONFIG) --libs libcjson libutf8proc 2>/dev/null || \
    echo -lcjson -lutf8proc)
# What is used when it is there, and its absence an error with a reason otherwise:
# PCRE2 for unusual expressions of tokenizers, libpng and libjpeg for pictures, SQLite
# for data.  WITH_PCRE2=0, WITH_PNG=0, WITH_JPEG=0 and WITH_SQLITE=0 leave them out.
WITH_PCRE2 ?= $(shell $(PKG_CONFIG) --exists libpcre2-8 2>/dev/null && echo 1)
WITH_PNG ?= $(shell $(PKG_CONFIG) --exists libpng 2>/dev/null && echo 1)
WITH_JPEG ?= $(shell $(PKG_CONFIG) --exists libjpeg 2>/dev/null && echo 1)
WITH_SQLITE ?= $(shell $(PKG_CONFIG) --exists sqlite3 2>/dev/null && echo 1)
OPTIONAL := $(strip $(if $(filter 1,$(WITH_PCRE2)),libpcre2-8) $(if $(filter \
    1,$(WITH_PNG)),libpng) $(if $(filter 1,$(WITH_JPEG)),libjpeg) $(if $(filter \
    1,$(WITH_SQLITE)),sqlite3))
ifneq ($(OPTIONAL),)
PKG_CFLAGS += $(shell $(PKG_CONFIG) --cflags $(OPTIONAL)) $(if $(filter \
    libpcre2-8,$(OPTIONAL)),-DPEFT_PCRE2) $(if $(filter \
    libpng,$(OPTIONAL)),-DPEFT_PNG) $(if $(filter libjpeg,$(OPTIONAL)),-DPEFT_JPEG) $(if $(filter sqlite3,$(OPTIONAL)),-DPEFT_SQLITE)
PKG_LIBS += $(shell $(PKG_CONFIG) --libs $(OPTIONAL))
endif
PKG_CFLAGS := $(PKG_CFLAGS)
PKG_LIBS := $(PKG_LIBS)
OBJCOPY ?= objcopy
WARN = -Wall -Wextra -Wshadow $(if $(filter 1,$(WERROR)),-Werror)
LIBS = $(PKG_LIBS) -lm -lpthread $(LIBS_$(OS))
CCALL = $(CC) -std=c11 $(WARN) -D_GNU_SOURCE -Iinclude $(PKG_CFLAGS) $(CPPFLAGS) -fPIC \
    -fvisibility=hidden -ffp-contract=off -fno-asynchronous-unwind-tables $(SECTIONS) \
    $(CFLAGS) $(SAN_$(MODE)) -MMD -MP -MF $@.d -MT $@
LINK = $(CC) $(CFLAGS) $(SAN_$(MODE)) $(LDFLAGS)
# $(call accepts,FLAGS): FLAGS, if the compiler knows them all.
accepts = $(shell $(CC) -Werror $(1) -S -o /dev/null -x c /dev/null 2>/dev/null && echo "$(1)")

# What nobody calls (the twins of kernels, what only the kit or a test wants) stays out of a
# library.
SECTIONS := $(if $(SAN_$(MODE)),,-ffunction-sections -fdata-sections)

# --- the operating system
OS := $(shell uname -s)
LIBS_Linux = -ldl
ifeq ($(OS),Darwin)
SO = libpeft.dylib
KIT_SO = libpeft_kit.dylib
KIT_MAJOR = libpeft_kit.$(SOVERSION).dylib
KIT_FULL = libpeft_kit.$(VERSION).dylib
SO_MAJOR = libpeft.$(SOVERSION).dylib
SO_FULL = libpeft.$(VERSION).dylib
SOFLAGS = -dynamiclib -Wl,-dead_strip -install_name $(LIBDIR)/$(@F:.dylib=.$(SOVERSION).dylib)
else
SO = libpeft.so
SO_MAJOR = libpeft.so.$(SOVERSION)
SO_FULL = libpeft.so.$(VERSION)
KIT_SO = libpeft_kit.so
KIT_MAJOR = libpeft_kit.so.$(SOVERSION)
KIT_FULL = libpeft_kit.so.$(VERSION)
# A sanitizer's own symbols come from the program, so -z defs is for release.
SOFLAGS = -shared -Wl,-soname,$(@F).$(SOVERSION) $(if $(SAN_$(MODE)),,-Wl$(comma)-z$(comma)defs) \
    -Wl,-z,noseparate-code $(if $(SECTIONS),-Wl$(comma)--gc-sections) $(RELR)
comma := ,
# Tables of pointers take a tenth of the space when their relocations are packed,
# which the C library must know (glibc from 2.36 on).  RELR= leaves them as they are.
RELR ?= $(shell grep -qs GLIBC_ABI_DT_RELR "$$($(CC) -print-file-name=libc.so.6)" && \
    echo -Wl,-z,pack-relative-relocs)
RELR := $(RELR)
# The kit finds the library beside itself.
KIT_RPATH = -Wl,-rpath,'$$ORIGIN'
endif

# --- sources
SRCS := $(filter-out lib/all.c,$(wildcard lib/*/*.c lib/*/*/*.c))
# The kit is a library of its own above the other's public functions: whoever only
# trains does not carry it.  What it shares with the other below those, it has twice.
KIT = prep judge
KIT_SRCS := $(wildcard $(KIT:%=lib/%/*.c))
SRCS := $(filter-out $(KIT_SRCS),$(SRCS))
OBJS := $(SRCS:lib/%.c=$(B)/%.o)
KIT_OBJS := $(KIT_SRCS:lib/%.c=$(B)/%.o)
CMD_OBJS := $(patsubst tools/%.c,$(B)/tools/%.o,$(wildcard tools/*.c))
TESTS := $(addprefix $(B)/,$(basename $(notdir $(wildcard tests/*/test_*.c))))
EXAMPLES := $(patsubst examples/%.c,$(B)/example_%,$(wildcard examples/*.c))
BENCHES := $(patsubst bench/%.c,$(B)/bench_%,$(wildcard bench/*.c))
HEADERS := $(wildcard include/*.h)
CMD := $(if $(CMD_OBJS),$(B)/peft)
FUZZ := $(patsubst tests/fuzz/fuzz_%.c,%,$(wildcard tests/fuzz/fuzz_*.c))
vpath test_%.c $(wildcard tests/*)

# Kernels are plain-C sources (*.inc) compiled once for each processor level;
# *_avx2.c and *_avx512.c are empty on other processors.  The loops of level_*.c
# are written so that reordering sums and ignoring the sign of zero is right, and
# nothing there tests for NaN.
#
# What computes is compiled for speed, and so is what reads every byte of a text or
# a file (HOT); the rest for size.  Of a loop, only the part in whole vectors is
# worth many instructions, and plain C is for processors that are rare by now.
LEVEL = $(LEVEL_$(lastword $(subst _, ,$*)))
WHOLE := $(call accepts,-fno-ipa-cp-clone --param vect-epilogues-nomask=0 --param max-completely-peel-times=4)
HOT = $(addprefix base/,buf json map rng) $(addprefix text/,bpe pre wordpiece) \
    $(addprefix prep/,damage minhash near personal tidy)
HOT_release := -O2 $(call accepts,-fno-align-functions -fno-align-jumps -fno-align-labels)
$(HOT:%=$(B)/%.o): EXTRA = $(HOT_$(MODE))
FAST = -O2 -ftree-vectorize $(WHOLE)
$(B)/kernel/tile_%.o: FAST = -O2 $(WHOLE)
$(B)/kernel/tile_pair.o: FAST = -O3 $(WHOLE)
$(B)/kernel/quant_avx%.o: FAST = -O2
$(B)/kernel/quant_neon.o: FAST = -O3 $(WHOLE)
$(patsubst %,$(B)/kernel/%.o,level_c quant_c tile_c tile_pair_c quant blas cayley head gated gemm attn attn_few compute): FAST = $(OPT_$(MODE))
$(B)/kernel/%.o: EXTRA = $(FAST) $(LEVEL)
$(B)/kernel/tile_%.o: EXTRA = $(FAST) $(LEVEL) -ffp-contract=fast
$(B)/kernel/level_%.o: EXTRA = $(FAST) $(LEVEL) -ffp-contract=fast -fno-math-errno \
    -fno-trapping-math -ffinite-math-only -fno-signed-zeros
ifneq ($(filter x86_64% amd64% i_86%,$(shell $(CC) -dumpmachine)),)
LEVEL_avx2 = -mavx2 -mfma -mf16c
LEVEL_avx512 = -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512cd -mfma -mf16c \
    -mprefer-vector-width=512
LEVEL_pair = $(LEVEL_avx512) -mavx512bf16
LEVEL_amx = $(LEVEL_pair) -mamx-tile -mamx-bf16
LEVEL_split = $(LEVEL_amx)
endif

# --- rules
ifneq ($(V),1)
.SILENT:
MAKEFLAGS += --no-print-directory
endif
.DELETE_ON_ERROR:
.SECONDARY:

.DEFAULT_GOAL := all
all: lib $(CMD)
lib: $(B)/libpeft.a $(B)/$(SO) $(B)/libpeft_kit.a $(B)/$(KIT_SO)

# `make` by itself installs nothing; it says what to do.
$(B)/packages:
	mkdir -p $(B)
	printf '#include <cJSON.h>\n#include <utf8proc.h>\n' | \
	    $(CC) $(PKG_CFLAGS) $(CPPFLAGS) -fsyntax-only -x c - 2>/dev/null || { \
	    echo "cJSON or utf8proc is missing: run 'make deps', or install" >&2; \
	    echo "libcjson-dev libutf8proc-dev pkg-config" >&2; exit 1; }
	touch $@

$(B)/%.o: lib/%.c Makefile | $(B)/packages
	mkdir -p $(@D)
	echo "CC $@"
	$(CCALL) $(EXTRA) -Ilib -c -o $@ $<

$(B)/tools/%.o: tools/%.c | $(B)/packages
	mkdir -p $(@D)
	echo "CC $@"
	$(CCALL) -c -o $@ $<

# What uses them is built anew when optional libraries come or go.
$(shell mkdir -p $(B) && { echo '$(OPTIONAL)' | cmp -s - $(B)/optional || \
    echo '$(OPTIONAL)' >$(B)/optional; })
$(B)/text/regex.o $(B)/data/png.o $(B)/data/jpeg.o $(B)/data/sqlite.o: $(B)/optional

# Every object, for the tests, which also look inside.
$(B)/internal.a: $(OBJS) $(KIT_OBJS)
	rm -f $@
	$(AR) rcs $@ $^
# What the kit takes from below.
$(B)/below.a: $(filter-out $(B)/api/%,$(OBJS))
	rm -f $@
	$(AR) rcs $@ $^

# The archive for users is one object whose only global names are peft_*: a
# host's function with the name of one of ours cannot take its place.
$(B)/libpeft.a: $(OBJS)
$(B)/libpeft_kit.a: $(KIT_OBJS) $(B)/below.a
$(B)/libpeft.a $(B)/libpeft_kit.a:
	echo "AR $@"
	rm -f $@
ifeq ($(OS),Darwin)
	$(LD) -r -exported_symbol '_peft_*' -o $(@:.a=.o) $^
else
	$(LD) -r -o $(@:.a=.o) $^
	$(OBJCOPY) --wildcard --keep-global-symbol='peft_*' $(@:.a=.o)
endif
	$(AR) rcs $@ $(@:.a=.o)

$(B)/$(SO): $(OBJS)
	echo "LD $@"
	$(LINK) $(SOFLAGS) -o $@ $(OBJS) $(LIBS)
	ln -sf $(SO) $(B)/$(SO_MAJOR)
$(B)/$(KIT_SO): $(KIT_OBJS) $(B)/$(SO) $(B)/below.a
	echo "LD $@"
	$(LINK) $(SOFLAGS) -o $@ $^ $(KIT_RPATH) $(LIBS)
	ln -sf $(KIT_SO) $(B)/$(KIT_MAJOR)

# All programs lie in $(B)/ itself, from where the library finds ../deps/libpeft.
# The command and the examples use what a user has: the archive and peft.h.
$(B)/peft: $(CMD_OBJS) $(B)/libpeft_kit.a $(B)/libpeft.a
	echo "LD $@"
	$(LINK) -o $@ $^ $(LIBS)
$(B)/example_%: examples/%.c $(B)/libpeft.a
	echo "LD $@"
	$(CCALL) $(LDFLAGS) -o $@ $< $(B)/libpeft.a $(LIBS)
$(B)/test_%: test_%.c $(B)/internal.a
	echo "LD $@"
	$(CCALL) $(LDFLAGS) -Wno-unused-function -Ilib -Itests -o $@ $< $(B)/internal.a $(LIBS)
# Every fuzz target in one program, which replays tests/fuzz/corpus.
FUZZ_CC = $(CCALL) -Wno-unused-function -Ilib -Itests
$(B)/replay/%.o: tests/fuzz/fuzz_%.c | $(B)/packages
	mkdir -p $(@D)
	echo "CC $@"
	$(FUZZ_CC) -DLLVMFuzzerTestOneInput=fuzz_$* -c -o $@ $<
$(B)/test_fuzz: tests/fuzz/test_fuzz.c $(FUZZ:%=$(B)/replay/%.o) $(B)/internal.a
	echo "LD $@"
	$(FUZZ_CC) '-DTARGETS=${FUZZ:%=TARGET(%)}' $(LDFLAGS) -o $@ $^ $(LIBS)
# The same targets for libFuzzer.
$(B)/fuzz_%: tests/fuzz/fuzz_%.c $(B)/internal.a
	echo "LD $@"
	$(FUZZ_CC) -DFUZZING -fsanitize=fuzzer $(LDFLAGS) -o $@ $< $(B)/internal.a $(LIBS)
$(B)/bench_%: bench/%.c $(B)/internal.a
	echo "LD $@"
	$(CCALL) $(LDFLAGS) -Ilib -o $@ $< $(B)/internal.a $(LIBS)

# --- tasks
deps:
	tools/setup.sh

test: deps
	for mode in $(MODES); do $(MAKE) MODE=$$mode test-programs || exit 1; done
	$(MAKE) MODE=release all examples
	tools/runtests.sh $(MODES)
test-programs: $(TESTS)
examples: $(EXAMPLES)

# libFuzzer, one target after the other: tests/fuzz/README.md.
SECONDS ?= 600
FUZZ_CLANG ?= clang
fuzz:
	$(MAKE) MODE=fuzz CC="$(FUZZ_CLANG)" fuzz-programs

fuzz-programs: $(FUZZ:%=$(B)/fuzz_%)
fuzz-run: fuzz
	tests/fuzz/run.sh $(SECONDS) $(FUZZ)

check-style:
	tests/style.sh && tests/layers.sh

demo: deps
	$(MAKE) MODE=release all examples
	BUILD=build/release DEMO_STEPS=$(DEMO_STEPS) tools/demo.sh
# libpeft beside its peers: bench/rows.py; BENCH_ONLY=lora,start for some rows.
bench: deps
	$(MAKE) MODE=release all benches
	BUILD=build/release bench/bench.sh
# The tables of docs/methods.md; BENCH_MODE=speed for the column of speeds alone.
bench-methods: deps
	$(MAKE) MODE=release all
	BUILD=build/release bench/methods.sh
benches: $(BENCHES)
# The figures that tests/instructions.sh holds steps against.
instructions: deps
	$(MAKE) MODE=release all
	BUILD=build/release tests/instructions.sh --write
# Every method both ways against PEFT, with torch: tests/interop/run.sh.
interop: deps
	$(MAKE) MODE=release all
	BUILD=build/release tests/interop/run.sh

# What is compiled for 64-bit ARM, tested here by an emulator: the kernels and the graph.
# The programs are static and leave out what needs libraries of the other machine.
CROSS ?= aarch64-linux-gnu-
CROSS_TESTS = test_kernel test_quant test_gemm test_attn test_graph
cross:
	tools/cross.sh "$(CROSS)" build/cross $(CROSS_TESTS)
cross-programs: $(CROSS_TESTS:%=$(B)/%)

# lib/all.c is the library as one unit, without the files of processor levels,
# which need flags of their own.  `make amalgam` writes it, `make unity` checks
# that it is complete and compiles: two files may not share a static name.
LAYERS = base kernel graph store text model adapt data train api
UNIT = $(foreach d,$(LAYERS),$(filter $d/%,$(filter-out kernel/level_% kernel/quant_% \
    kernel/tile_%,$(SRCS:lib/%=%))))
amalgam:
	sed '/^#include/d' lib/all.c >build/all.head
	{ cat build/all.head; printf '#include "%s"\n' $(UNIT); } >lib/all.c
unity: | $(B)/packages
	printf '#include "%s"\n' $(UNIT) >$(B)/all.want
	grep '^#include' lib/all.c | diff - $(B)/all.want || { \
	    echo "lib/all.c is out of date: run 'make amalgam'" >&2; exit 1; }
	echo "CC $(B)/all.o"
	$(CCALL) -Ilib -c -o $(B)/all.o lib/all.c

install: all
	install -d $(DESTDIR)$(INCLUDEDIR) $(DESTDIR)$(LIBDIR)/pkgconfig $(DESTDIR)$(BINDIR)
	install -m 644 $(HEADERS) $(DESTDIR)$(INCLUDEDIR)/
	install -m 644 $(B)/libpeft.a $(B)/libpeft_kit.a $(DESTDIR)$(LIBDIR)/
	install -m 755 $(B)/$(SO) $(DESTDIR)$(LIBDIR)/$(SO_FULL)
	ln -sf $(SO_FULL) $(DESTDIR)$(LIBDIR)/$(SO_MAJOR)
	ln -sf $(SO_MAJOR) $(DESTDIR)$(LIBDIR)/$(SO)
	install -m 755 $(B)/$(KIT_SO) $(DESTDIR)$(LIBDIR)/$(KIT_FULL)
	ln -sf $(KIT_FULL) $(DESTDIR)$(LIBDIR)/$(KIT_MAJOR)
	ln -sf $(KIT_MAJOR) $(DESTDIR)$(LIBDIR)/$(KIT_SO)
	for name in libpeft libpeft_kit; do \
	sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@LIBDIR@|$(LIBDIR)|' \
	    -e 's|@INCLUDEDIR@|$(INCLUDEDIR)|' -e 's|@VERSION@|$(VERSION)|' \
	    -e 's|@OPTIONAL@|$(OPTIONAL)|' \
	    pkgconfig/$$name.pc.in >$(DESTDIR)$(LIBDIR)/pkgconfig/$$name.pc || exit 1; done
	$(if $(CMD),install -m 755 $(CMD) $(DESTDIR)$(BINDIR)/peft)
	if [ -d build/deps/libpeft ]; then \
	    install -d $(DESTDIR)$(LIBDIR)/libpeft && \
	    install -m 755 build/deps/libpeft/* $(DESTDIR)$(LIBDIR)/libpeft/; fi
	if [ -n "$(PYTHONDIR)" ]; then \
	    install -d $(DESTDIR)$(PYTHONDIR)/libpeft && \
	    install -m 644 bindings/python/libpeft/*.py $(DESTDIR)$(PYTHONDIR)/libpeft/; fi

uninstall:
	rm -f $(HEADERS:include/%=$(DESTDIR)$(INCLUDEDIR)/%) $(addprefix $(DESTDIR)$(LIBDIR)/, \
	    $(SO_FULL) $(SO_MAJOR) $(SO) $(KIT_FULL) $(KIT_MAJOR) $(KIT_SO) libpeft.a \
	    libpeft_kit.a pkgconfig/libpeft.pc pkgconfig/libpeft_kit.pc) $(DESTDIR)$(BINDIR)/peft
	rm -rf $(DESTDIR)$(LIBDIR)/libpeft $(if $(PYTHONDIR),$(DESTDIR)$(PYTHONDIR)/libpeft)

# build/deps holds what was downloaded; `make distclean` drops it too.
clean:
	rm -rf build/release build/asan build/tsan build/fuzz
distclean:
	rm -rf build

.PHONY: all lib deps test test-programs fuzz fuzz-programs fuzz-run examples check-style demo bench \
    cross cross-programs bench-methods benches instructions interop amalgam unity install uninstall \
    clean distclean

-include $(addsuffix .d,$(OBJS) $(KIT_OBJS) $(CMD_OBJS) $(TESTS) $(EXAMPLES) $(BENCHES) \
    $(FUZZ:%=$(B)/replay/%.o) $(FUZZ:%=$(B)/fuzz_%))
