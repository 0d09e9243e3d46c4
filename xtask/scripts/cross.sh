#!/bin/bash
# Cross-compiles the gateway without containers and without rustup's targets, from an amd64 Debian:
#   rustc and the sources of its standard library from Debian, linker and C library from PyPI's ziglang.
#   cross.sh TARGET [cargo arguments]     run in the workspace
#   TOOLS=folder for them (default ~/.cache/tidemill-cross)   GLIBC=oldest C library for -gnu (default 2.28)
# Takes about two minutes for the standard library of a target, once, then as long as cargo does.
set -euo pipefail
target=$1
shift
tools=${TOOLS:-$HOME/.cache/tidemill-cross} glibc=${GLIBC:-2.28} series=${SERIES:-1.96}
zig=0.17.1 zigbuild=0.24.0
step() { printf '[%4ds] %s\n' $SECONDS "$*" >&2; }

mkdir -p "$tools"
if [ ! -x "$tools/rustc" ]; then
    # Unpacked, not installed: no clash with rustup, and no root needed.
    step "fetch Debian's rustc-web $series"
    mkdir -p "$tools/debs"
    version=$(apt-cache madison rustc-web | awk -v s="$series" '$3 ~ "^"s {print $3; exit}')
    [ -n "$version" ] || { echo "apt has no rustc-web $series: apt-get update; it is in bookworm-security" >&2; exit 1; }
    llvm=$(apt-cache show "libstd-rust-web-$series=$version" | grep -oE 'libllvm[0-9]+' | head -1)
    (cd "$tools/debs" && apt-get -qq -o APT::Sandbox::User=root download "rustc-web=$version" \
        "libstd-rust-web-dev=$version" "libstd-rust-web-$series=$version" "rust-web-src=$version" "$llvm")
    for deb in "$tools"/debs/*.deb; do dpkg -x "$deb" "$tools"; done
    printf '#!/bin/sh\nd=%s/usr\nLD_LIBRARY_PATH=$d/lib/x86_64-linux-gnu exec $d/bin/rustc "$@"\n' "$tools" >"$tools/rustc"
    chmod +x "$tools/rustc"
fi
if [ ! -x "$tools/venv/bin/cargo-zigbuild" ]; then
    step "fetch zig $zig"
    python3 -m venv "$tools/venv"
    "$tools/venv/bin/pip" -q install "ziglang==$zig" "cargo-zigbuild==$zigbuild"
fi
export RUSTC=$tools/rustc PATH=$tools/venv/bin:$PATH

library=$tools/usr/lib/rustlib/$target/lib
if [ ! -e "$library/.done" ]; then
    step "build the standard library for $target"
    build=$tools/std-$target
    mkdir -p "$build/src"
    : >"$build/src/lib.rs"
    printf '[package]\nname="s"\nversion="0.0.0"\nedition="2021"\n[profile.release]\ncodegen-units=1\n[workspace]\n' >"$build/Cargo.toml"
    # As rust's own bootstrap does.
    printf '#!/bin/sh\ncase " $* " in *" --crate-name panic_abort "*) exec "$@" -Cpanic=abort ;; esac\nexec "$@"\n' >"$build/wrap"
    chmod +x "$build/wrap"
    (cd "$build" && env -u CARGO_TARGET_DIR RUSTC_WRAPPER="$build/wrap" RUSTC_BOOTSTRAP=1 \
        RUSTFLAGS="-Cembed-bitcode=yes" cargo build -q --release \
        -Zbuild-std=std,test,proc_macro,panic_abort,panic_unwind --target "$target")
    mkdir -p "$library"
    cp "$build/target/$target"/release/deps/*.rlib "$library/"
    rm -f "$library"/libs-*.rlib
    touch "$library/.done"
    rm -rf "$build"
fi

case $target in
*gnu*) with=$target.$glibc ;;
*)
    with=$target
    # zig brings musl's start files itself.
    flags=CARGO_TARGET_$(tr a-z- A-Z_ <<<"$target")_RUSTFLAGS
    export "$flags=${!flags:-} -Clink-self-contained=no"
    ;;
esac
step "cargo zigbuild --target $with $*"
cargo zigbuild --target "$with" "$@"
step done
