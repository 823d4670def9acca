#!/bin/sh
# What each room of the house takes in the static program for $1, and each crate: KiB of machine code, which
# is most of the program. Small functions count for whoever they were built into, and generic ones of the
# standard library for whoever uses them or for `alloc and core`, as cargo-bloat has guessed.
set -eu
command -v cargo-bloat > /dev/null || {
    echo "cargo-bloat is missing; \`cargo install cargo-bloat --locked\` installs it" >&2
    exit 1
}
# With names, and so not in the place of the program that is shipped.
export CARGO_TARGET_DIR=target/rooms CARGO_PROFILE_RELEASE_STRIP=false
cargo bloat --release --target "$1" -n 0 -w | awk '
    function kib(text) {
        return text ~ /MiB$/ ? text * 1024 : text ~ /KiB$/ ? text + 0 : text / 1024
    }
    $2 ~ /^[0-9.]+%$/ && $3 ~ /B$/ && $4 != ".text" {
        size = kib($3)
        crate = $4
        sub(/\?$/, "", crate)
        name = $0
        if (crate == "marathon_acme") {
            room = "alloc and core"
            if (match(name, /marathon_acme::[a-z_]+/)) {
                rest = substr(name, RSTART + length("marathon_acme::"))
                split(rest, parts, "::")
                room = parts[1]
                sub(/[^a-z_].*/, "", room)
                if ((room == "daemon" || room == "io") && parts[2] ~ /^[a-z_]+$/) room = room "/" parts[2]
            }
            rooms[room] += size
        }
        crates[crate] += size
    }
    END {
        for (crate in crates) if (crates[crate] >= 2) printf "%8.1f KiB  crate  %s\n", crates[crate], crate
        for (room in rooms) if (rooms[room] >= 2) printf "%8.1f KiB  room   %s\n", rooms[room], room
    }' | sort -k3,3 -k1,1nr
