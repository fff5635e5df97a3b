#!/usr/bin/env bash
# Runs the PyTorch and Triton backends on a CUDA GPU, on both golden suites, in every precision that they have. Checks what
# they write twice: as what it is, which must pass, and as something more precise, which must fail. Prints a table.
# usage: examples/backends/on_a_gpu.sh [PYTHON]     (a Python with torch, triton, numpy and safetensors)
# VSEPP=FILE is a vsepp that is built already; JOBS=N runs N backends at a time, each with 3 GB of memory; OUT=DIR keeps
# what they write, and the text of every check.
set -euo pipefail
cd "$(dirname "$0")/../.."
python=${1:-python3}
out=${OUT:-$(mktemp -d)}
[ -n "${OUT:-}" ] || trap 'rm -rf "$out"' EXIT
[ -n "${VSEPP:-}" ] || cargo build --release --quiet
vsepp=${VSEPP:-target/release/vsepp}
mkdir -p "$out"

# What is computed: name, file, suite, precision, options. <name>-<precision> is the folder.
for precision in f64 f32 tf32 bf16; do
  echo "core pytorch golden $precision"
  echo "pictures pytorch golden-pictures $precision"
  echo "channels-last pytorch golden-pictures $precision --channels-last"
done >"$out/list"
for precision in f32 tf32; do
  echo "triton triton golden $precision"
done >>"$out/list"
compute() { # name file suite precision [options]
  "$python" "examples/backends/$2_backend.py" "fixtures/$3" "$out/$1-$4" --device cuda --precision "$4" "${@:5}" \
    >"$out/$1-$4.log" 2>&1 || echo "$1 in $4 ended with an error: $(tail -n 1 "$out/$1-$4.log")"
}
export -f compute
export python out
xargs -P "${JOBS:-1}" -I {} bash -c 'compute {}' <"$out/list"

# Under f64 only F64 is accepted, so numbers of f32 are widened before they are claimed to be f64.
widen='
import pathlib, sys, torch
from safetensors.torch import load_file, save_file
found, wide = map(pathlib.Path, sys.argv[1:])
wide.mkdir(exist_ok=True)
for file in found.glob("*.safetensors"):
    save_file({name: x.double() if x.is_floating_point() else x for name, x in load_file(file).items()}, wide / file.name)
'
summary='
import json, sys
report = json.load(sys.stdin)
failed, passed = report["counts"]["failed"], report["counts"]["passed"] + report["counts"]["remarks"]
if failed:
    print(failed, "of", failed + passed, "cases fail")
else:
    worst = max((stage for stage in report["stages"] if "worst_at" in stage), key=lambda stage: stage["worst"])
    print("all", passed, "cases pass, worst %.2f" % worst["worst"], "in", worst["worst_at"][1], "of", worst["worst_at"][0])
'
failed=0
check() { # name suite precision profile
  local folder=$out/$1-$3 text=$out/$1-$3-as-$4.txt wanted=0 code=0
  [ "$3" = "$4" ] || wanted=1
  if [ "$3-$4" = f32-f64 ]; then
    folder=$out/$1-wide
    "$python" -c "$widen" "$out/$1-$3" "$folder"
  fi
  "$vsepp" golden check "$folder" --suite "fixtures/$2" --profile "$4" >"$text" 2>&1 || code=$?
  if [ "$code" -le 1 ]; then
    "$vsepp" golden check "$folder" --suite "fixtures/$2" --profile "$4" --json | "$python" -c "$summary" >"$out/row" || true
  else
    tail -n 1 "$text" >"$out/row"
  fi
  [ "$code" = "$wanted" ] || { echo "  (exit code $code, expected $wanted)" >>"$out/row"; failed=1; }
  printf '%-14s %-5s %-5s %s\n' "$1" "$3" "$4" "$(cat "$out/row")"
}
printf '%-14s %-5s %-5s %s\n' backend in as ''
while read -r name _ suite precision _; do
  check "$name" "$suite" "$precision" "$precision"
done <"$out/list"
while read -r name _ suite precision _; do
  case $precision in
    f32) check "$name" "$suite" f32 f64 ;;
    tf32) check "$name" "$suite" tf32 f32 ;;
    bf16)
      check "$name" "$suite" bf16 f32
      check "$name" "$suite" bf16 tf32
      ;;
  esac
done <"$out/list"
exit "$failed"
