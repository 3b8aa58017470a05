#!/usr/bin/env bash
#
# All measurements, one after the other: bench/run.sh BUILD, or "make bench".
#
#   B='yield echo'   only these: switch yield spawn timers sleepers echo http
#   QUICK=1          a look in under a minute, with too few rounds to believe
#
# Whatever has a limit program is measured in turns with it: limit, naru, limit,
# naru. The machine drifts, but both drift with it, so each round gives one
# ratio, and the table shows the median of the ratios and their range. Servers
# have core 0 to themselves and the load generator core 1; each round starts
# a fresh server. bench/README.md says more.

set -u -o pipefail
export LC_ALL=C

build=${1:?usage: bench/run.sh BUILD}
bench=$build/bench
chosen=${B:-}
failed=0
server=

if [ -n "${QUICK:-}" ]; then
    rounds=2 seconds=0.4 warmup=0.2 scale=0.1 sleepers=100000 sleeper_rounds=1
else
    rounds=5 seconds=2 warmup=0.5 scale=1 sleepers=1000000 sleeper_rounds=3
fi

work=$(mktemp -d) || exit 2

stop_server() {
    [ -n "$server" ] || return 0
    kill -TERM "$server" 2>/dev/null
    wait "$server" 2>/dev/null
    server=
}

clean_up() {
    stop_server
    rm -rf "$work"
}

trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

complain() {
    echo "run.sh: $*" >&2
    failed=1
}

wanted() {
    [ -z "$chosen" ] || [[ " $chosen " == *" $1 "* ]]
}

heading() {
    printf '\n== %s\n' "$*"
}

on_server_core=()
on_load_core=()
if [ "$(nproc)" -ge 2 ] && taskset -c 0 true 2>/dev/null && taskset -c 1 true 2>/dev/null; then
    on_server_core=(taskset -c 0)
    on_load_core=(--cpu 1)
fi

# ---- the machine ----

print_machine() {
    local model
    model=$(sed -n 's/^model name[^:]*: *//p' /proc/cpuinfo | head -n 1)
    printf 'kernel    %s\n' "$(uname -sr)"
    printf 'cpu       %s, %s cores\n' "${model:-$(uname -m)}" "$(nproc)"
    # The first word of what the library was compiled with.
    printf 'compiler  %s\n' "$("$(cut -d ' ' -f 1 "$build/flags")" --version | head -n 1)"
    [ ${#on_server_core[@]} -gt 0 ] || echo 'pinning   none: fewer than two cores, or no taskset; the figures are noisier for it'
    [ -z "${QUICK:-}" ] || echo 'QUICK: too few and too short rounds to believe'
}

# ---- samples ----

# median, min and max of the numbers on stdin
summary() {
    sort -g | awk '{ v[NR] = $1 }
        END { if (NR) print (v[int((NR + 1) / 2)] + v[int(NR / 2) + 1]) / 2, v[1], v[NR] }'
}

# the value of a field in the JSON line on stdin; nothing if it is null or missing
field() {
    sed -n "s/.*\"$1\":\([0-9.][0-9.]*\).*/\1/p"
}

# column number $2 of the sample file $1, with one line per round
column() {
    awk -v n="$2" '{ print $n }' "$work/$1"
}

# ratio of that column between two sample files, round by round
ratio() {
    paste "$work/$1" "$work/$2" | awk -v n="$3" '{ half = NF / 2; if ($n > 0) print $(half + n) / $n }'
}

# ---- programs that measure by themselves ----

program() {
    local name=$1 text=$2
    shift 2
    wanted "$name" || return 0
    heading "$text"
    "$bench/$name" "$@" || complain "$name failed"
}

# A value is the second but last column of a row "name  median  (min – max) unit".
row_median() {
    sed -n "s/^$1  *\([0-9.][0-9.]*\)  *(.*/\1/p"
}

# The switch against its limit, in turns: both are short, so each round is a whole run.
switches() {
    local i a b
    wanted switch || return 0
    heading 'switch: leave one flow of control, continue another (limit: bench/limit/context)'
    : >"$work/ratios"
    for ((i = 0; i < rounds; i++)); do
        "$bench/limit/context" >"$work/limit" || { complain 'limit/context failed'; return; }
        "$bench/switch" "$scale" >"$work/naru" || { complain 'switch failed'; return; }
        a=$(row_median 'switch, call + FP control state' <"$work/limit")
        b=$(row_median 'context switch, one way' <"$work/naru")
        [ -z "$a" ] || awk -v a="$a" -v b="$b" 'BEGIN { print b / a }' >>"$work/ratios"
    done
    cat "$work/limit" "$work/naru"
    [ ! -s "$work/ratios" ] || print_ratio 'context switch, naru / limit' 'budget ≤ 1.2' <"$work/ratios"
}

print_ratio() {
    local median min max
    read -r median min max < <(summary)
    printf '%-44s %10.2f  (%.2f – %.2f) %s\n' "$1" "$median" "$min" "$max" "$2"
}

# ---- servers ----

# Starts a server on core 0 and sets $server and $where (the load's option that finds it).
start_server() {
    local log=$work/server.log line='' i
    where=()
    : >"$log"
    "${on_server_core[@]}" "$@" >"$log" 2>"$work/server.err" &
    server=$!
    for ((i = 0; i < 500; i++)); do
        line=$(sed -n '/^listening /{s/.* //p;q}' "$log")
        [ -z "$line" ] || break
        kill -0 "$server" 2>/dev/null || break
        sleep 0.01
    done
    if [ -z "$line" ]; then
        complain "$1 does not start: $(head -n 1 "$work/server.err")"
        stop_server
        return 1
    fi
    case $line in
        /*) where=(--unix "$line") ;;
        *) where=(--port "$line") ;;
    esac
}

# One round of a server: the command is in the array named $1; $2 is the sample file, to which "rate cpu p50 p99
# memory" is appended; the rest are options of the load.
measure_server() {
    local -n command_of=$1
    local samples=$2 line key value
    shift 2
    start_server "${command_of[@]}" || return 1
    if ! line=$("$bench/load" "${where[@]}" --server-pid "$server" "${on_load_core[@]}" "$@" 2>"$work/load.err"); then
        complain "load $* against ${command_of[0]}: $(head -n 1 "$work/load.err")"
        stop_server
        return 1
    fi
    stop_server
    for key in rate server_cpu_us_per_message p50_us p99_us bytes_per_connection; do
        value=$(field "$key" <<<"$line")
        printf '%s ' "${value:-0}"
    done >>"$work/$samples"
    echo >>"$work/$samples"
}

median_of() {
    column "$1" "$2" | summary | cut -d ' ' -f 1
}

print_server() {
    printf '%-26s %-6s %10.0f %10.3f %10.0f %10.0f\n' "$1" "$2" \
        "$(median_of "$2" 1)" "$(median_of "$2" 2)" "$(median_of "$2" 3)" "$(median_of "$2" 4)"
}

# A row of the table: its name, which column the budget is about and what it says, then options of the load. The commands
# are in the arrays limit_server and naru_server.
versus() {
    local name=$1 about=$2 budget=$3 i what=CPU
    shift 3
    [ "$about" -ne 1 ] || what=rate
    : >"$work/limit"
    : >"$work/naru"
    for ((i = 0; i < rounds; i++)); do
        measure_server limit_server limit --seconds "$seconds" --warmup "$warmup" "$@" || return
        measure_server naru_server naru --seconds "$seconds" --warmup "$warmup" "$@" || return
    done
    print_server "$name" limit
    print_server '' naru
    ratio limit naru "$about" | print_ratio "   $what, naru / limit" "budget $budget"
}

# Resident bytes per idle connection; here every round counts alike, so few will do.
idle() {
    local i
    : >"$work/limit"
    : >"$work/naru"
    for ((i = 0; i < 3; i++)); do
        measure_server limit_server limit --idle --connections 5000 --seconds 0.3 || return
        measure_server naru_server naru --idle --connections 5000 --seconds 0.3 || return
    done
    printf '%-44s %10.0f  bytes\n' 'idle connection (5,000), resident, limit' "$(median_of limit 5)"
    printf '%-44s %10.0f  bytes, budget ≤ 5632\n' 'idle connection (5,000), resident, naru' "$(median_of naru 5)"
}

print_server_head() {
    printf '%-26s %-6s %10s %10s %10s %10s\n' '' '' rate/s 'CPU µs' 'p50 µs' 'p99 µs'
}

echo_servers() {
    wanted echo || return 0
    heading 'echo: a server on core 0 under load from core 1; CPU is the server'\''s, per message (limit: bench/limit/echo)'
    print_server_head
    limit_server=("$bench/limit/echo") naru_server=("$bench/echo")
    versus '50 connections × 64 B' 2 '≤ 1.03' --connections 50
    versus '500 connections × 64 B' 2 '≤ 1.03' --connections 500
    versus '5,000 connections × 64 B' 2 '≤ 1.03' --connections 5000
    versus 'connect, 1 message, close' 1 '≥ 1.00' --connections 50 --connect-rate
    idle
    naru_server=("$bench/echo" --buffer 20480)
    versus '50 connections × 16 KiB' 2 '≤ 1.03' --connections 50 --size 16384
    limit_server=("$bench/limit/echo" --unix "$work/limit.sock") naru_server=("$bench/echo" --unix "$work/naru.sock")
    versus '50 Unix sockets × 64 B' 1 '≥ 0.97' --connections 50
}

http_servers() {
    wanted http || return 0
    heading 'http: the same with a fixed page (limit: bench/limit/http, which does not parse; naru: examples/http_hello)'
    if [ ! -x "$build/examples/http_hello" ]; then
        echo "skipped: there is no $build/examples/http_hello ('make demo' builds the examples)"
        return
    fi
    print_server_head
    limit_server=("$bench/limit/http") naru_server=("$build/examples/http_hello" 0)
    versus '50 connections' 2 '≤ 1.15' --http --connections 50
    versus '50 connections, 16 deep' 2 '≤ 2.00' --http --connections 50 --pipeline 16
}

# ---- all of it ----

for name in limit/context limit/echo limit/http load switch yield spawn timers sleepers echo; do
    if [ ! -x "$bench/$name" ]; then
        echo "run.sh: no $bench/$name; 'make benchmarks' builds it" >&2
        exit 2
    fi
done

print_machine
switches
program yield 'yield: tasks that give way to each other (budget: ≤ 4.5 ns with two)' "$scale"
program spawn 'spawn: a task from spawn to join (budget: ≤ 20 ns, and ≤ 15 ns each of 10,000)' "$scale"
program timers 'timers: start and stop (budget: ≤ 6 ns, flat to 1,000,000)' "$scale"
program sleepers 'sleepers: tasks that sleep for 1 s (budget for 1,000,000: ≤ 2.3 s beyond it, ≤ 4,400 bytes)' \
    default "$sleepers" "$sleeper_rounds"
program sleepers 'sleepers on dense stacks (budget for 1,000,000: ≤ 0.9 s beyond it, ≤ 2,300 bytes)' \
    dense "$sleepers" "$sleeper_rounds"
echo_servers
http_servers

exit $failed
