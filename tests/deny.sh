#!/bin/sh
# Licences, sources, duplicate versions and known advisories of all crates, by cargo-deny and .deny.toml.
# Where one cannot be checked, it says so, and how to mend that; tests/supply.rs is held everywhere.
set -eu
if ! cargo deny --version >/dev/null 2>&1; then
    echo "not checked: crates, by cargo-deny; get it with: cargo install --locked cargo-deny"
    exit 0
fi
# For Linux alone: what other systems need is in no program of ours, and need not be downloaded.
metadata=$(mktemp)
said=$(mktemp)
trap 'rm -f "$metadata" "$said"' EXIT
cargo metadata --format-version 1 --locked \
    --filter-platform x86_64-unknown-linux-gnu --filter-platform x86_64-unknown-linux-musl \
    --filter-platform aarch64-unknown-linux-musl >"$metadata"
cargo deny --offline --metadata-path "$metadata" check bans licenses sources
if cargo deny fetch db >"$said" 2>&1; then
    cargo deny --metadata-path "$metadata" check advisories
else
    echo "not checked: known advisories; their database cannot be had: $(grep -m1 fatal "$said")"
fi
