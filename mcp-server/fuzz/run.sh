#!/usr/bin/env bash
# Builds the fuzz targets and lets each search for a while. In: seconds for each target (60); Rust and a C++ compiler.
# Out: exit code 0 when nothing was found; otherwise the input that breaks a promise, in artifacts/, and how to try it again.
set -euo pipefail
seconds=${1:-60}
cd "$(dirname "${BASH_SOURCE[0]}")"

# Coverage counters without a sanitizer, which stable Rust does not have: there is no unsafe code of ours whose faults one
# would find. The host is named as target, so that build scripts and macros, which no engine counts for, get no counters.
host=$(rustc -vV | sed -n 's/^host: //p')
export RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares"
CARGO_TARGET_DIR="$(realpath -m "${CARGO_TARGET_DIR:-../../target}")/fuzz"
export CARGO_TARGET_DIR
cargo build --quiet --release --locked --target "$host"

mkdir -p artifacts
for target in gate session_id; do
  program="$CARGO_TARGET_DIR/$host/release/$target"
  # New inputs go into the first folder; corpus/ is the seed, and only read.
  found="$CARGO_TARGET_DIR/found/$target"
  mkdir -p "$found"
  printf '=== %s, %s s\n' "$target" "$seconds"
  "$program" "$found" "corpus/$target" -max_total_time="$seconds" -max_len=4096 -timeout=10 -rss_limit_mb=1024 \
    -artifact_prefix="artifacts/$target-" -print_final_stats=1 -verbosity=0 || {
    printf 'found something; try it again with\n  %s %s/artifacts/%s-*\n' "$program" "$PWD" "$target"
    exit 1
  }
done
