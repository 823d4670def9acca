#!/bin/sh
# Installs what the tests need and is missing: setup.sh RUST-TARGET PACKAGE...
# What cannot be installed is named; the tests that need it are then reported as ignored. Prints nothing
# when nothing is missing, and never fails: without a network, or as a user who may install nothing, the
# other tests still run.
# SUDO: what to become root with (sudo). SETUP_TRIED: a file in which what could not be installed is noted;
# what stands there is not tried again.
target=$1
shift
has() {
    command -v "$1" >/dev/null 2>&1
}
was_tried() {
    [ -n "$SETUP_TRIED" ] && grep -qx "$1" "$SETUP_TRIED" 2>/dev/null
}
# not_installed NAME CONSEQUENCE
not_installed() {
    echo "not installed: $1; $2"
    if [ -n "$SETUP_TRIED" ]; then
        mkdir -p "${SETUP_TRIED%/*}" && echo "$1" >>"$SETUP_TRIED"
    fi
}
missing=
for package in "$@"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' ||
        was_tried "$package" || missing="$missing $package"
done
if [ -n "$missing" ] && has apt-get; then
    as_root=
    [ "$(id -u)" = 0 ] || as_root=${SUDO-sudo}
    echo "installing$missing"
    $as_root apt-get update -qq
fi
# One by one: a package that is not available does not keep the others out.
for package in $missing; do
    { has apt-get && DEBIAN_FRONTEND=noninteractive $as_root apt-get install -y -qq "$package" >/dev/null; } ||
        not_installed "$package" "tests that need it will be ignored"
done
if has rustup && ! was_tried "$target" && ! rustup target list --installed 2>/dev/null | grep -qx "$target"; then
    rustup target add "$target" ||
        not_installed "$target" "make static will not work without this Rust target"
fi
exit 0
