#!/usr/bin/env bash
# The checks and benchmarks that need a GPU, from the bundle of `cargo xtask bundle`: on any x86-64 Linux with a GPU and
# a Python that has torch 2.11. No Rust is needed.
#
#   cuda.sh [--python PYTHON] [--device cuda|cuda:1|cpu] [--out DIR] [--benchmarks "NAME..."]
#
# What ran, and what came of it, is one table: on stdout and in DIR/cuda.md (DIR is `cuda-results` unless said), beside what
# each check has printed. What could not be run is told as such, and is never passed. Exit code: 0 all passed, 1 one failed,
# 2 nothing could be run. `--device cpu` tries the script itself; `--benchmarks` chooses some, or none.
set -uo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
python=python3 device=cuda out=cuda-results
benchmarks="rn18_train rn18_cure_full rn18_cure_simple rn18_pgd10_train rn18_recover rn18_relabel"
benchmarks="$benchmarks cn3_pgd100 cn3_square cn3_autoattack dc dm mtt20"
while [ $# -gt 0 ]; do
    case $1 in
        --python) python=$2; shift 2 ;;
        --device) device=$2; shift 2 ;;
        --out) out=$2; shift 2 ;;
        --benchmarks) benchmarks=$2; shift 2 ;;
        *) sed -n '2,10p' "$0" >&2; exit 2 ;;
    esac
done
if [ ! -x "$here/bin/guard-host" ]; then
    echo "cuda.sh: no bundle in \`$here\`: pack one with \`cargo xtask bundle\` and unpack it there" >&2
    exit 2
fi
mkdir -p "$out" || exit 2
out=$(cd "$out" && pwd)

table=()
failed=0 passed=0

note() { # name verdict seconds detail
    table+=("| $1 | $2 | $3 | $4 |")
    printf '%-34s %-8s %6s s  %s\n' "$1" "$2" "$3" "$4" >&2
}

finish() {
    {
        echo "# What \`tests/cuda.sh\` found"
        echo
        echo "$(date -u +%Y-%m-%d), device $device: ${gpu:-unknown}; torch ${torch:-unknown}."
        echo
        echo "| check | verdict | seconds | |"
        echo "|---|---|---|---|"
        printf '%s\n' "${table[@]}"
        if [ -s "$out/benchmarks.md" ]; then
            echo
            cat "$out/benchmarks.md"
        fi
    } | tee "$out/cuda.md"
    if [ "$failed" -gt 0 ]; then exit 1; fi
    if [ "$passed" -eq 0 ]; then exit 2; fi
    exit 0
}

# Runs a check; the last line that it prints is its detail.
check() { # name command...
    local name=$1 log begun seconds detail verdict
    shift
    log="$out/$(echo "$name" | tr ' /' '--').log"
    begun=$SECONDS
    if "$@" >"$log" 2>&1; then
        verdict=passed passed=$((passed + 1))
    else
        verdict=FAILED failed=$((failed + 1))
    fi
    seconds=$((SECONDS - begun))
    detail=$(grep -v '^ *$' "$log" | tail -n 1 | cut -c1-120 | tr '|' '/')
    note "$name" "$verdict" "$seconds" "$detail"
}

# Some checks work in other folders.
python=$(command -v "$python") || python=python3
python=$(cd "$(dirname "$python")" && pwd)/$(basename "$python")

# The libtorch of Python, which takes the place of the one that the programs were built with.
folder=$("$python" -c 'import os, torch; print(os.path.dirname(torch.__file__))' 2>"$out/python.log")
if [ -z "$folder" ]; then
    note "all" "not run" 0 "\`$python\` has no torch: $(tail -n 1 "$out/python.log")"
    finish
fi
torch=$("$python" -c 'import torch; print(torch.__version__)')
if [ "${torch%%+*}" != 2.11.0 ]; then
    note "all" "not run" 0 "torch is $torch, needed is 2.11.0"
    finish
fi
export LD_LIBRARY_PATH="$folder/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
export GUARD_DEVICE=$device GUARD_GOLDEN_DIR="$here/golden"
threads=$(nproc)
host=("$here/bin/guard-host" --device "$device")

# Whether there is what everything needs.
if ! "${host[@]}" doctor >"$out/doctor.log" 2>&1; then
    note "all" "not run" 0 "$(grep -m 1 -E '^(error|fail)' "$out/doctor.log" | cut -c1-160)"
    finish
fi
gpu=$(sed -n 's/^ok *device *//p' "$out/doctor.log")
note "doctor" passed 0 "$gpu"
passed=$((passed + 1))

if [ -d "$here/golden" ]; then
    check "golden values" "$here/tests/golden"
else
    note "golden values" "not run" 0 "the bundle has none"
fi
for plugin in "$here"/lib/guard-host/libguard_*.so; do
    check "plugin check $(basename "$plugin" .so | sed 's/^lib//')" "${host[@]}" plugin check "$plugin" --time-limit 300
done

# Of a run, its row of the table.
short_run() { # folder arguments...
    local folder=$1
    shift
    "${host[@]}" "$@" run "${short[@]}" ${precision:+--set "precision=\"$precision\""} --out "$runs/$folder" >"$out/$folder.table" || return 1
    cat "$out/$folder.table"
    grep -m 1 'curvature' "$out/$folder.table"
}

# Short GUARD runs: the built-in recipe with fewer steps.
runs="$out/runs"
rm -rf "$runs"
short=(--set training.epochs=3 --set distill.iterations=50 --set student.epochs=50 --set evaluate.probe_images=16)
check "GUARD, short" short_run fp32
precision=bf16 check "GUARD, short, bf16" short_run bf16
if [ -f "$here/lib/guard-host/libguard_graphs.so" ]; then
    check "GUARD, short, graphs" short_run graphs --graphs
else
    note "GUARD, short, graphs" "not run" 0 "the bundle has no libguard_graphs.so"
fi
check "GUARD, short, deterministic" short_run once --deterministic
check "the same again" short_run twice --deterministic
# Equal bits: what was distilled, and what every image was taken for.
same() (
    local name compared=0
    cd "$runs/once" || return 1
    while read -r name; do
        cmp "$name" "$runs/twice/$name" || return 1
        compared=$((compared + 1))
    done < <(find . -name '*.safetensors')
    echo "$compared files are equal"
    [ "$compared" -gt 0 ]
)
check "equal bits when deterministic" same

# Benchmarks beside PyTorch, run eagerly on the same card, as users run it: float32, with TensorFloat32 in convolutions.
if [ ! -f "$here/peers/peers.py" ]; then
    note "benchmarks" "not run" 0 "the bundle has no peers"
    finish
fi
field() { "$python" -c "import json,sys; print('%.4g' % (json.loads(sys.stdin.readlines()[-1])['$1'] or 0))"; }
echo "| case | precision | ours, ms | PyTorch, ms | ratio | peak MiB, ours / PyTorch |
|---|---|---|---|---|---|" >"$out/benchmarks.md"

bench() { # program case precision [graphs]
    local program=$1 name=$2 precision=$3 ours theirs
    ours=$(env ${4:+GUARD_GRAPHS="$here/lib/guard-host/libguard_graphs.so"} GUARD_PRECISION="$precision" "$here/tests/$program" "$name" "$here" "$here/peers" "$threads") || return 1
    echo "$ours"
    if [ ! -f "$out/$name.peer.json" ]; then
        (cd "$here/benches" && "$python" "$program.py" "$name" "$here" "$here/peers" "$threads") >"$out/$name.peer.json" ||
            { rm -f "$out/$name.peer.json"; return 1; }
    fi
    theirs=$(cat "$out/$name.peer.json")
    echo "$theirs"
    local mine other
    mine=$(field ms <<<"$ours") other=$(field ms <<<"$theirs")
    ratio=$("$python" -c "print('%.2f' % ($other / $mine))")
    echo "| $name | $precision${4:+, graphs} | $mine | $other | $ratio | $(field peak_mib <<<"$ours") / $(field peak_mib <<<"$theirs") |" \
        >>"$out/benchmarks.md"
    echo "$ratio times as fast as PyTorch"
}
rm -f "$out"/*.peer.json
for name in $benchmarks; do
    case $name in
        rn18_*) for precision in fp32 tf32 bf16; do check "bench $name $precision" bench steps "$name" $precision; done ;;
        cn3_*)
            check "bench $name" bench steps "$name" fp32
            if [ -f "$here/lib/guard-host/libguard_graphs.so" ]; then
                check "bench $name graphs" bench steps "$name" fp32 graphs
            fi
            ;;
        *) check "bench $name" bench matching "$name" fp32 ;;
    esac
done
finish
