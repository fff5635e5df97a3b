#!/usr/bin/env bash
# Runs the backends of this folder on the golden suites and checks what they write, in f64 and f32.
# usage: examples/backends/run_all.sh [PYTHON]     (a Python with torch, numpy and safetensors)
set -euo pipefail
cd "$(dirname "$0")/../.."
python=${1:-python3}
suite=fixtures/golden
pictures=fixtures/golden-pictures
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
cargo build --release --quiet
check() { # name profile [suite]
  printf '%-16s %-4s ' "$1" "$2"
  target/release/vsepp golden check "$out/$1-$2" --suite "${3:-$suite}" --profile "$2" >"$out/text" || { cat "$out/text"; exit 1; }
  tail -n 1 "$out/text"
}
for backend in pytorch numpy; do
  for precision in f64 f32; do
    "$python" "examples/backends/${backend}_backend.py" "$suite" "$out/$backend-$precision" --precision "$precision" >"$out/text"
    check "$backend" "$precision"
  done
done
for precision in f64 f32; do
  "$python" examples/backends/pytorch_backend.py "$pictures" "$out/pictures-$precision" --precision "$precision" >"$out/text"
  check pictures "$precision" "$pictures"
done
for precision in f64 f32; do
  real=$([ "$precision" = f64 ] && echo double || echo float)
  cc -O2 -std=c11 -Wall -Wextra "-DREAL=$real" examples/backends/c_backend.c -lm -o "$out/c_backend"
  mkdir -p "$out/c-$precision"
  "$out/c_backend" "$suite" "$out/c-$precision" >"$out/text"
  check c "$precision"
done
# Triton's interpreter runs the kernels on the CPU; it has no f64 product.
if "$python" -c 'import triton' 2>/dev/null; then
  TRITON_INTERPRET=1 "$python" examples/backends/triton_backend.py "$suite" "$out/triton-f32" --device cpu >"$out/text"
  check triton f32
else
  echo "skipped: triton ($python has no triton)"
fi
