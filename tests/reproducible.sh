#!/bin/sh
# Builds the static program twice, each time from a copy of the committed sources in a folder of its own,
# and compares the bytes: tests/reproducible.sh RUST-TARGET. What is not committed is not built.
set -eu
cd "$(dirname "$0")/.."
target=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# Of different length, so that a path in the program would move what follows.
for name in one another/place; do
	mkdir -p "$work/$name"
	git archive HEAD | tar -x -C "$work/$name"
	(cd "$work/$name" && CARGO_TARGET_DIR=target cargo build --release --locked --target "$target" 2>&1 | tail -n 1)
	sha256sum "$work/$name/target/$target/release/marathon-acme" | cut -d ' ' -f 1
done
cmp "$work/one/target/$target/release/marathon-acme" "$work/another/place/target/$target/release/marathon-acme"
echo "the same bytes"
