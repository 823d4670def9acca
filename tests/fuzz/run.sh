#!/bin/sh
# Fuzzes one target or all, each for so many seconds: tests/fuzz/run.sh SECONDS [TARGET].
# What the fuzzer learns stays in target/fuzz/; nothing is committed by itself.
set -eu
cd "$(dirname "$0")/../.."
seconds=$1
chosen=${2:-$(cd tests/fuzz/targets && ls | sed 's/\.rs$//')}

command -v cargo-fuzz >/dev/null || { echo "missing: cargo install cargo-fuzz" >&2; exit 1; }
# The instrumentation is stable, cargo-fuzz asks for it as nightly does. Without a sanitizer: the
# program has no unsafe code of its own, and its panics are found as they are.
export RUSTC_BOOTSTRAP=1
built=target/fuzz/$(rustc -vV | sed -n 's/^host: //p')/release
# shellcheck disable=SC2086
cargo fuzz build --fuzz-dir tests/fuzz --target-dir target/fuzz --sanitizer none \
	--no-trace-compares ${2:-}

failed=0
for target in $chosen; do
	corpus=tests/fuzz/corpus/$target learned=target/fuzz/learned/$target found=target/fuzz/found/$target
	log=target/fuzz/$target.log
	mkdir -p "$learned" "$found"
	if "$built/$target" "$learned" "$corpus" -max_total_time="$seconds" -artifact_prefix="$found/" \
		-max_len=4096 -timeout=10 -rss_limit_mb=1024 -print_final_stats=1 2>"$log"; then
		echo "$target: $(sed -n 's/^stat::number_of_executed_units: *//p' "$log") executions, nothing found"
	else
		failed=1
		tail -n 30 "$log"
		artifact=$(ls -t "$found" | head -n 1)
		echo "$target: FOUND $found/$artifact; replay with: $built/$target $found/$artifact"
	fi
done
exit $failed
