#!/bin/sh
# Shows that the simulator finds bugs: each file NAME.bug in this folder is a deliberate bug. It is
# applied to a copy of the sources, and the simulator runs a few seeds until one fails; when none
# does, its other quick tests, and then the other seeds. A bug that nothing catches means that a
# fault or an invariant is missing, and ends in an error. Last, the simulator runs the unchanged
# sources with as many seeds as the bugs required, and must pass.
#
#   SEEDS=2000 run.sh [NAME…]     up to 2000 seeds for each bug; only the bugs with these names
#
# The first line of a file describes the bug; apply.awk describes the other lines.
set -eu
cd "$(dirname "$0")/../.."
here=$PWD
copy=$here/target/mutants
seeds=${SEEDS:-2000}
few=50
[ "$seeds" -ge "$few" ] || few=$seeds
wanted=$*
# A bug may be that something never ends; in seconds.
limit=1800

rm -rf "$copy"
mkdir -p "$copy"
tar -cf - Cargo.toml Cargo.lock src tests | tar -xf - -C "$copy"
cd "$copy"
# The simulator drives the library: nobody needs the program.
rm src/main.rs
cp -Rp src unchanged
export CARGO_TARGET_DIR="$here/target"
# Seeds are few and builds are many.
export CARGO_PROFILE_SIM_OPT_LEVEL=1

# Builds the simulator of the copy; prints the path of the program.
build() {
    # Cargo goes by the times of files, and an older copy may have been built later.
    touch src/lib.rs
    cargo test --quiet --profile sim --test sim --no-run \
        --message-format json-render-diagnostics 2>build.log |
        sed -n 's/.*"name":"sim".*"executable":"\([^"]*\)".*/\1/p' | tail -n 1
}

# Runs the simulator $1 over $2 seeds; prints how many it took, if that is known, and what caught the
# bug, or nothing.
caught() {
    ended=0
    SEEDS=$2 timeout "$limit" "$1" --ignored --nocapture until_caught >run.log 2>&1 || ended=$?
    case $ended in
        0) ;;
        124) echo "- a seed never ends" ;;
        *) echo "the simulator was ended, status $ended" >&2; exit 1 ;;
    esac
    sed -n 's/^CAUGHT //p' run.log
}

# Likewise its other tests with the seeds of their own, the quickest first; prints the first that fails.
caught_elsewhere() {
    for test in replays strangers_hinder crash_loop fairness lying_load late_storage no_renewal_is \
        hostile_tenants; do
        ended=0
        env -u SEEDS timeout "$limit" "$1" "$test" >run.log 2>&1 || ended=$?
        case $ended in
            0) continue ;;
            101) sed -n 's/^test \(.*\) \.\.\. FAILED$/\1/p' run.log | head -n 1 ;;
            124) echo "a test never ends" ;;
            *) echo "the simulator was ended, status $ended" >&2; exit 1 ;;
        esac
        return
    done
}

printf '%-26s %5s  %s\n' bug seeds 'what caught it'
missed=0
most=1
for file in "$here"/tests/mutants/*.bug; do
    name=$(basename "$file" .bug)
    case " ${wanted:-$name} " in *" $name "*) ;; *) continue ;; esac
    awk -f "$here/tests/mutants/apply.awk" "$file"
    program=$(build)
    [ -n "$program" ] || { cat build.log >&2; echo "$name: does not build" >&2; exit 1; }
    verdict=$(caught "$program" "$few")
    if [ -z "$verdict" ]; then
        what=$(caught_elsewhere "$program")
        if [ -n "$what" ]; then verdict="- $what"; else verdict=$(caught "$program" "$seeds"); fi
    fi
    if [ -z "$verdict" ]; then
        verdict="- NOTHING, in $seeds seeds"
        missed=$((missed + 1))
    fi
    count=${verdict%% *} what=${verdict#* }
    [ "$count" = - ] || [ "$count" -le "$most" ] || most=$count
    printf '%-26s %5s  %.90s\n' "$name" "$count" "$what"
    rm -rf src
    cp -Rp unchanged src
done
program=$(build)
verdict=$(caught "$program" "$most")
[ -z "$verdict" ] || { echo "without any bug, after seeds: $verdict" >&2; exit 1; }
echo "without any bug, $most seeds end well"
[ "$missed" -eq 0 ] || { echo "$missed bugs were not caught" >&2; exit 1; }
