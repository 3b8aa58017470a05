#!/bin/sh
# Does naru work for somebody who has only installed it? This installs into a temporary directory, and from outside
# the tree compiles and runs a C and a C++ program with nothing but what pkg-config says. It also checks that
# DESTDIR moves the files but not the paths in naru.pc, that each public header stands alone in both languages, and
# that uninstalling leaves no file behind.
#
#     test/harness/install.sh [arguments for make, as CC=clang]

set -eu
cd "$(dirname "$0")/../.."
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
fail() { echo "install: $*" >&2; exit 1; }

make all "$@"

# As a packager does it.
make install DESTDIR="$root/stage" PREFIX=/usr "$@"
[ -f "$root/stage/usr/lib/libnaru.a" ] || fail "DESTDIR is not honoured"
grep -qx 'prefix=/usr' "$root/stage/usr/lib/pkgconfig/naru.pc" || fail "naru.pc does not carry PREFIX"
make uninstall DESTDIR="$root/stage" PREFIX=/usr "$@"
[ -z "$(find "$root/stage" -type f)" ] || fail "uninstall leaves files behind"

# As a user does it.
make install PREFIX="$root/usr" "$@"
export PKG_CONFIG_PATH="$root/usr/lib/pkgconfig"
mkdir "$root/program"
cp test/harness/install.c "$root/program/program.c"
cp test/harness/install.c "$root/program/program.cc"
cd "$root/program"
[ "$(pkg-config --modversion naru)" = 0.1.0 ] || fail "naru.pc has another version"

# What pkg-config prints is a list of words.
# shellcheck disable=SC2046
gcc -Wall -Wextra -Werror -o c-program program.c $(pkg-config --cflags --libs naru)
# shellcheck disable=SC2046
g++ -Wall -Wextra -Werror -o c++-program program.cc $(pkg-config --cflags --libs naru)
./c-program
./c++-program

for header in "$root"/usr/include/naru/*.h; do
    name=naru/$(basename "$header")
    for language in c c++; do
        # shellcheck disable=SC2046
        echo "#include <$name>" | gcc -Wall -Wextra -Wpedantic -Werror -fsyntax-only -x $language \
            $(pkg-config --cflags naru) - || fail "<$name> does not compile alone as $language"
    done
done
echo "install: works for C and C++"
