# naru is built by this one file, with GNU make and no configure step. Everything it makes is below build/, so
# "rm -rf build" forgets all. Two things are worth knowing before reading on:
#
# - Every configuration (compiler, sanitizer, architecture, context switch) has a directory of its own: plain gcc
#   builds in build/, CC=clang in build/clang/, SAN=thread in build/thread/ and so on. They never mix, and going
#   back to one finds it as it was.
# - What an object was made *with* is a dependency like what it was made *from*: the flags stand in a file which
#   is touched only when they change. Nobody has to remember "make clean".
#
# The public headers are copied to build/include/naru/, the way they are installed. Library, tests and examples
# find them there as <naru/io.h>, so that an example is compiled exactly as a user would compile it.

## make                 the library: build/libnaru.a and build/naru.pc
## make test            build and run all tests; T=name or T='*pattern*' picks some, V=1 shows each of them,
##                      REQUIRE=1 takes a test that misses a tool as failed
## make demo            a tour: examples, then a server under load
## make bench           the measurements; B=name picks one ("make benchmarks" only builds them)
## make lint            clang-format, clang-tidy and cppcheck (or one of lint-format, lint-tidy, lint-cppcheck)
## make install         to PREFIX=/usr/local, below DESTDIR if given; "make uninstall" takes it away again
## make config          what this configuration comes to
## make clean           remove what this configuration has built (in plain build/: everything)
##
## V=1 also shows the commands. Each of them takes:
##                      CC=clang  SAN=address,undefined  SAN=thread  CONTEXT=ucontext  CROSS=aarch64-linux-gnu-
##                      WERROR=1  VALGRIND=1  CFLAGS='-O0 -g'

.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
.SUFFIXES:
MAKEFLAGS += --no-builtin-rules

VERSION := 0.1.0
PREFIX ?= /usr/local

# --- Which configuration ---------------------------------------------------------------------------------------

ifeq ($(origin CC),default)
CC := gcc
endif
ifneq ($(CROSS),)
CC := $(CROSS)gcc
AR := $(CROSS)ar
PKG_CONFIG ?= $(CROSS)pkg-config
endif
PKG_CONFIG ?= pkg-config

# The runner of the tests runs here, whatever the tests are built for.
HOSTCC ?= $(if $(CROSS),gcc,$(CC))

# coro/ has a context switch in assembly for these; all others use swapcontext(3).
arch := $(firstword $(subst -, ,$(shell $(CC) -dumpmachine)))
native_context := $(if $(filter x86_64 amd64 aarch64 arm64 riscv64,$(arch)),assembly,ucontext)
CONTEXT ?= $(native_context)

# The parts of the configuration that differ from the plain one name its directory.
comma := ,
empty :=
space := $(empty) $(empty)
variant := $(notdir $(CROSS:%-=%)) $(if $(CROSS),,$(filter-out gcc cc,$(notdir $(CC)))) \
           $(subst $(comma),-,$(SAN)) $(filter-out $(native_context),$(CONTEXT))
BUILD ?= build$(if $(strip $(variant)),/$(subst $(space),-,$(strip $(variant))))

# liburing is optional: without it the sources that need it are left out.
HAVE_URING := $(if $(shell $(PKG_CONFIG) --exists liburing 2>/dev/null && echo yes),yes,no)

# --- Flags -----------------------------------------------------------------------------------------------------

compiler_takes = $(shell $(CC) -Werror $(1) -x c -c /dev/null -o /dev/null 2>/dev/null && echo '$(1)')

# What a user may want to change. Assertions stay in: they are the library's own invariants, and cheap.
CFLAGS ?= -O2 -g

# C11 with GNU extensions where they earn it (statement expressions, attributes, constructors).
language := -std=gnu11

# perf and a debugger walk the stack by frame pointers, also through the entry of a task. Functions that call
# nothing need none: they are the innermost ones, and found by the program counter.
frames := -fno-omit-frame-pointer $(call compiler_takes,-momit-leaf-frame-pointer)

# Links of a queue are written one by one. A compiler that then copies two of them with one wide load makes the
# processor wait until the writes have left its store buffer: 5 ns in a yield that takes 6.
narrow_loads := $(call compiler_takes,-fno-tree-slp-vectorize)

# A first call through a lazily bound PLT runs the dynamic linker on the caller's stack, which for a vector machine
# means up to 3 KiB of saved registers: too much for a dense stack. Bound at start, the library's own calls are safe.
bound_calls := $(call compiler_takes,-fno-plt)

# A program takes over only the functions it uses: hello grows by 53 KiB and not by 66.
sections := -ffunction-sections -fdata-sections
drop_unused := $(if $(findstring apple,$(shell $(CC) -dumpmachine)),-Wl$(comma)-dead_strip,-Wl$(comma)--gc-sections)

# Shadowing and missing prototypes are how two things get one name. -Wconversion finds the narrowing that loses
# data. Signedness alone is left out: read(2) and its kin return a signed count that is then used as a size, and
# a cast at each of these places would hide the conversions that matter (-Wextra still warns of comparisons).
# -Wvla: a task has a small stack, nothing on it may have a size that comes from outside. -Wundef: a misspelt
# configuration macro must not silently be 0. -Wpointer-arith: sizeof(void) is not a size.
warnings := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wconversion -Wno-sign-conversion \
            -Wvla -Wundef -Wpointer-arith $(if $(WERROR),-Werror)

# A sanitizer that only prints would let the test pass.
sanitizer := $(if $(SAN),-fsanitize=$(SAN) -fno-sanitize-recover=all)

# _GNU_SOURCE for accept4, pipe2 and the like. It is empty and not 1, so that a file may define it as well. The
# examples do without: they must compile in a user's hands.
defines := $(if $(filter yes,$(HAVE_URING)),-DNARU_HAVE_URING=1) \
           $(if $(filter ucontext,$(CONTEXT)),-DNARU_CONTEXT_UCONTEXT=1)
extensions := -D_GNU_SOURCE=

includes := -I$(BUILD)/include -I.
code_flags := $(frames) $(sections) $(narrow_loads) $(bound_calls) $(sanitizer) $(CFLAGS)
link_flags := $(sanitizer) -pthread $(drop_unused) $(LDFLAGS)

compile = $(CC) $(language) $(warnings) $(includes) $(defines) $(CPPFLAGS) $(code_flags) -MMD -MP

# --- What there is ---------------------------------------------------------------------------------------------

layers := reactor coro sync io
headers := $(foreach layer,$(layers),$(if $(wildcard $(layer)/$(layer).h),$(BUILD)/include/naru/$(layer).h))

uring_sources := $(wildcard reactor/uring*.c)
library_sources := $(filter-out $(if $(filter no,$(HAVE_URING)),$(uring_sources)), \
                     $(foreach layer,$(layers),$(wildcard $(layer)/*.c $(layer)/*.S)))
uring_libs := $(if $(filter $(uring_sources),$(library_sources)),-luring)
test_sources := $(foreach layer,$(layers) conformance,$(wildcard test/$(layer)/*.c))
example_sources := $(wildcard test/examples/*.c)
bench_sources := $(wildcard bench/*.c bench/limit/*.c)

# build/obj/ mirrors the tree. Programs: build/test/coro/task, build/examples/echo, build/bench/limit/echo.
object = $(patsubst %,$(BUILD)/obj/%.o,$(basename $(1)))
library_objects := $(call object,$(library_sources))
harness_object := $(call object,test/harness/test.c)
test_programs := $(test_sources:%.c=$(BUILD)/%)
example_programs := $(example_sources:test/%.c=$(BUILD)/%)
bench_programs := $(bench_sources:%.c=$(BUILD)/%)
c_objects := $(filter-out $(call object,$(filter %.S,$(library_sources))),$(library_objects)) $(harness_object) \
             $(call object,$(test_sources) $(bench_sources))
example_objects := $(call object,$(example_sources))
assembly_objects := $(filter-out $(c_objects),$(library_objects))
objects := $(c_objects) $(example_objects) $(assembly_objects)

# --- How it is built -------------------------------------------------------------------------------------------

.PHONY: all demo test bench benchmarks install uninstall lint lint-format lint-tidy lint-cppcheck clean config help FORCE

all: $(BUILD)/libnaru.a $(BUILD)/naru.pc

# "build/flags" has the flags; printed with each file they would hide the warnings. V=1 shows the commands.
Q := $(if $(V),,@)
say = @echo ' $(1)'

# A file made from make's own variables is written only when it would change, so that its time says since when
# they are what they are.
define write_if_changed
	@mkdir -p $(@D)
	@printf '%s\n' "$$content" | cmp -s - $@ || printf '%s\n' "$$content" >$@
endef

$(BUILD)/flags: export content = $(compile) $(extensions) $(link_flags) $(uring_libs)
$(BUILD)/flags: FORCE
	$(write_if_changed)

# The archive depends on the list of its members, or it would keep those whose source is gone.
$(BUILD)/members: export content = $(AR) $(library_objects)
$(BUILD)/members: FORCE
	$(write_if_changed)

define pkg_config_file
prefix=$(PREFIX)
includedir=$${prefix}/include
libdir=$${prefix}/lib

Name: naru
Description: asynchronous runtime for C: reactor, coroutines, synchronisation, I/O
Version: $(VERSION)
Libs: -L$${libdir} -lnaru $(uring_libs) -pthread $(drop_unused)
Cflags: -I$${includedir}
endef
$(BUILD)/naru.pc: export content = $(pkg_config_file)
$(BUILD)/naru.pc: FORCE
	$(write_if_changed)

.SECONDEXPANSION:
$(headers): $$(basename $$(@F))/$$(@F)
	@mkdir -p $(@D)
	$(Q)cp $< $@

# The copied headers must be there before the first compilation; which of them an object really depends on is
# known after it, from the .d file.
$(objects): $(BUILD)/flags | $(headers)

$(c_objects): $(BUILD)/obj/%.o: %.c
	@mkdir -p $(@D)
	$(call say,compile $<)
	$(Q)$(compile) $(extensions) -c $< -o $@

$(example_objects): $(BUILD)/obj/%.o: %.c
	@mkdir -p $(@D)
	$(call say,compile $<)
	$(Q)$(compile) -c $< -o $@

$(assembly_objects): $(BUILD)/obj/%.o: %.S
	@mkdir -p $(@D)
	$(call say,compile $<)
	$(Q)$(compile) -c $< -o $@

$(BUILD)/libnaru.a: $(library_objects) $(BUILD)/members
	$(call say,archive $@)
	$(Q)rm -f $@
	$(Q)$(AR) rcs $@ $(library_objects)

define link
	@mkdir -p $(@D)
	$(call say,link $@)
	$(Q)$(CC) $(filter %.o %.a,$^) $(link_flags) $(LDLIBS) $(uring_libs) -o $@
endef

$(test_programs): $(BUILD)/%: $(BUILD)/obj/%.o $(harness_object) $(BUILD)/libnaru.a
	$(link)

$(example_programs): $(BUILD)/%: $(BUILD)/obj/test/%.o $(BUILD)/libnaru.a
	$(link)

$(bench_programs): $(BUILD)/%: $(BUILD)/obj/%.o $(BUILD)/libnaru.a
	$(link)

$(BUILD)/test-run: test/harness/run.c test/harness/test.h $(BUILD)/flags
	$(call say,compile $<)
	$(Q)$(HOSTCC) $(language) $(warnings) $(extensions) -I. -O2 -g $< -o $@

-include $(objects:.o=.d)

# --- What is run -----------------------------------------------------------------------------------------------

# A program for another architecture runs under qemu, with the libraries of its cross compiler. The sanitizers
# want their shadow memory at fixed addresses, which a kernel that randomises widely does not always leave free.
cross_triple := $(notdir $(CROSS:%-=%))
ifneq ($(CROSS),)
RUNNER ?= qemu-$(firstword $(subst -, ,$(cross_triple))) -L /usr/$(cross_triple)
else ifneq ($(VALGRIND),)
RUNNER ?= valgrind -q --error-exitcode=99 --leak-check=full --errors-for-leak-kinds=definite,possible
else ifneq ($(SAN),)
RUNNER ?= $(shell setarch -R true 2>/dev/null && echo setarch -R)
endif

# How many times slower a test may be than in the plain build.
time_factor := $(if $(VALGRIND),10,$(if $(CROSS)$(SAN),5,1))

test: all $(BUILD)/test-run $(test_programs) $(example_programs)
	@$(BUILD)/test-run -b $(BUILD) -f $(time_factor) $(if $(RUNNER),-w '$(RUNNER)') $(if $(T),-t '$(T)') \
	    $(if $(V),-v) $(if $(REQUIRE),-r) $(test_programs)

demo: all $(example_programs) $(bench_programs)
	@$(RUNNER) $(BUILD)/bench/demo $(BUILD)

benchmarks: all $(bench_programs)

bench: benchmarks
	@B='$(B)' bench/run.sh $(BUILD)

# --- Lint ------------------------------------------------------------------------------------------------------

lint_sources := $(library_sources:%.S=) $(test_sources) $(example_sources) $(bench_sources) \
                $(wildcard test/harness/*.c)
# *_asm.h holds macros for assembly: clang-format takes them for C.
lint_headers := $(filter-out %_asm.h,$(wildcard $(layers:%=%/*.h) test/*/*.h bench/*.h bench/limit/*.h))
lint_flags := $(language) $(includes) $(defines) $(extensions)
lint_jobs := $(shell getconf _NPROCESSORS_ONLN)

lint: lint-format lint-tidy lint-cppcheck

lint-format:
	clang-format --dry-run -Werror $(sort $(lint_sources) $(uring_sources) $(lint_headers))

lint-tidy: $(headers)
	printf '%s\n' $(sort $(lint_sources)) | xargs -P $(lint_jobs) -I '{}' clang-tidy --quiet '{}' -- $(lint_flags)

# Each suppression is a kind of remark that is wrong or of no use here:
# - autoVariables: that the address of a local variable outlives the call that got it. It does: to wait is to link
#   a node of one's own frame into what one waits for;
# - missingIncludeSystem: it needs no system headers to find its bugs, and is several times faster without;
# - normalCheckLevelMaxBranches: a remark about its own effort;
# - nullPointerRedundantCheck, nullPointerArithmeticRedundantCheck: it does not see that a CHECK of a test ends it;
# - varFuncNullUB: NULL is a pointer on every system this is for.
lint-cppcheck: $(headers)
	cppcheck -q -j $(lint_jobs) --error-exitcode=1 --enable=warning,performance,portability --inline-suppr \
	    --std=c11 --suppress=autoVariables --suppress=missingIncludeSystem \
	    --suppress=normalCheckLevelMaxBranches --suppress=nullPointerRedundantCheck \
	    --suppress=nullPointerArithmeticRedundantCheck --suppress=varFuncNullUB $(includes) $(defines) $(sort $(lint_sources))

# --- Installation ----------------------------------------------------------------------------------------------

install: all
	install -d $(DESTDIR)$(PREFIX)/include/naru $(DESTDIR)$(PREFIX)/lib/pkgconfig
	install -m 644 $(headers) $(DESTDIR)$(PREFIX)/include/naru
	install -m 644 $(BUILD)/libnaru.a $(DESTDIR)$(PREFIX)/lib
	install -m 644 $(BUILD)/naru.pc $(DESTDIR)$(PREFIX)/lib/pkgconfig

uninstall:
	rm -f $(layers:%=$(DESTDIR)$(PREFIX)/include/naru/%.h)
	rm -f $(DESTDIR)$(PREFIX)/lib/libnaru.a $(DESTDIR)$(PREFIX)/lib/pkgconfig/naru.pc
	[ ! -d $(DESTDIR)$(PREFIX)/include/naru ] || rmdir $(DESTDIR)$(PREFIX)/include/naru

# --- The rest --------------------------------------------------------------------------------------------------

clean:
	rm -rf $(BUILD)

config:
	@echo 'BUILD      = $(BUILD)'
	@echo 'CC         = $(CC) ($(arch))'
	@echo 'CONTEXT    = $(CONTEXT)'
	@echo 'SAN        = $(SAN)'
	@echo 'HAVE_URING = $(HAVE_URING)'
	@echo 'RUNNER     = $(RUNNER)'
	@echo 'PREFIX     = $(PREFIX)'
	@echo 'compile    = $(strip $(compile))'
	@echo 'link       = $(strip $(link_flags) $(uring_libs))'

help:
	@sed -n 's/^## \{0,1\}//p' $(firstword $(MAKEFILE_LIST))
