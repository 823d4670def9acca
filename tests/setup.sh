#!/bin/sh
# Installs what the tests need and is missing: setup.sh RUST-TARGET PACKAGE...
# What cannot be installed is named; the tests that need it are then reported as ignored.
target=$1
shift
missing=
for package in "$@"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' ||
        missing="$missing $package"
done
if [ -n "$missing" ]; then
    as_root=
    [ "$(id -u)" = 0 ] || as_root=sudo
    echo "installing$missing"
    $as_root apt-get update -qq
    # One by one: a package that is not to be had does not keep the others out.
    for package in $missing; do
        DEBIAN_FRONTEND=noninteractive $as_root apt-get install -y -qq "$package" >/dev/null ||
            echo "not installed: $package; tests that need it will be ignored"
    done
fi
if ! rustup target list --installed 2>/dev/null | grep -qx "$target"; then
    rustup target add "$target" ||
        echo "not installed: the Rust target $target; make static will not work"
fi
