#!/bin/sh
# Shows that the simulator would notice: each patch beside this script is a deliberate bug, applied to a
# copy of the sources, and the simulator runs seed after seed until one fails. A bug that no seed
# catches means that a fault or an invariant is missing, and ends in an error.
#
#   SEEDS=2000 run.sh [NAME…]     so many seeds at most; only these patches
#
# The first line of a patch says what the bug is.
set -eu
cd "$(dirname "$0")/../.."
here=$PWD
copy=$here/target/mutants
seeds=${SEEDS:-2000}

command -v patch >/dev/null || { echo "no patch(1): install it, or run make setup" >&2; exit 1; }
rm -rf "$copy"
mkdir -p "$copy"
tar -cf - Cargo.toml Cargo.lock src tests | tar -xf - -C "$copy"
cd "$copy"
export CARGO_TARGET_DIR="$here/target"

# Builds the simulator of the copy; prints the path of the program.
build() {
    cargo test --quiet --profile sim --test sim --no-run --message-format json 2>build.log |
        sed -n 's/.*"name":"sim".*"executable":"\([^"]*\)".*/\1/p' | tail -n 1
}

printf '%-28s %-10s %s\n' bug 'caught by' 'seeds until it was caught'
missed=0
for file in "$here"/tests/mutants/*.patch; do
    name=$(basename "$file" .patch)
    case " ${*:-$name} " in *" $name "*) ;; *) continue ;; esac
    patch --quiet -p1 <"$file" || { echo "$name: the patch does not fit any more" >&2; exit 1; }
    program=$(build)
    [ -n "$program" ] || { cat build.log >&2; echo "$name: does not build" >&2; exit 1; }
    verdict=$(SEEDS=$seeds UNTIL_CAUGHT=1 "$program" --nocapture until_caught 2>&1 |
        sed -n 's/^CAUGHT //p' | tail -n 1)
    [ -n "$verdict" ] || { verdict="nothing    not in $seeds seeds"; missed=$((missed + 1)); }
    printf '%-28s %s\n' "$name" "$verdict"
    patch --quiet -R -p1 <"$file"
done
[ "$missed" -eq 0 ] || { echo "$missed bugs were not caught" >&2; exit 1; }
