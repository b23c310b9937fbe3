#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# Builds the fuzz targets with clang++ (libFuzzer, address and undefined-behaviour sanitizers) and runs them, one
# after another on one core:   bash tests/fuzz/run.sh [--seconds N] [--corpus] [TARGET...]
#   --seconds N   for each target; 600 without it
#   --corpus      first writes the files of the corpus that tests/fuzz/make_corpus.cpp makes
#   TARGET        some of checkpoint, model, recipe, safetensors, schedule, session, text, tokenizer; all without one
#
# Prints executions and findings per target. Inputs that were found stay in build/fuzz/<target>.inputs and are
# where the next run begins; findings and logs stay beside them. Exits with 1 on a finding.
set -euo pipefail
export LC_ALL=C.UTF-8  # numbers with a point
unset CDPATH           # a cd that prints nothing
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cd "$root"

fail() {
  echo "tests/fuzz/run.sh: $1" >&2
  exit 2
}

seconds=600
corpus=no
targets=()
while [[ $# -gt 0 ]]; do
  case "$1" in
    --seconds)
      [[ "${2-}" =~ ^[1-9][0-9]*$ ]] || fail "--seconds takes a number from 1 on, got '${2-}'"
      seconds=$2
      shift
      ;;
    --corpus) corpus=yes ;;
    -*) fail "unknown option '$1'; known are --seconds N, --corpus" ;;
    *)
      [[ -f "tests/fuzz/${1}_fuzz.cpp" ]] || fail "unknown target '$1'; see tests/fuzz/*_fuzz.cpp"
      targets+=("$1")
      ;;
  esac
  shift
done
if [[ ${#targets[@]} == 0 ]]; then
  for file in tests/fuzz/*_fuzz.cpp; do
    name=${file##*/}
    targets+=("${name%_fuzz.cpp}")
  done
fi

bash .ci/setup tests sanitizers
out=build/fuzz
mkdir -p "$out"
read -r eigen < <(pkg-config --cflags-only-I eigen3)
pieces=(-DHSM_USE_SENTENCEPIECE -lsentencepiece)  # only where a target uses it
common=(clang++ -std=c++20 -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Werror -pthread -I include -I tests
  -isystem "${eigen#-I}")
if [[ $corpus == yes ]]; then
  "${common[@]}" tests/fuzz/make_corpus.cpp -o "$out/make_corpus"
  "$out/make_corpus" tests/fuzz/corpus
fi
for target in "${targets[@]}"; do
  echo "compiling $target"
  "${common[@]}" -O1 -g1 -fno-omit-frame-pointer -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all \
    "tests/fuzz/${target}_fuzz.cpp" -o "$out/$target" "${pieces[@]}"
done

# The files of the targets, in memory where there is such a place.
scratch=$(mktemp -d -p "$(if [[ -d /dev/shm ]]; then echo /dev/shm; else echo "${TMPDIR:-/tmp}"; fi)")
trap 'rm -rf "$scratch"' EXIT

found=0
for target in "${targets[@]}"; do
  mkdir -p "$out/$target.inputs" "$out/$target.findings"
  log=$out/$target.log
  # One allocation of 64 MB, which no input of a few KB can call for, is a finding, and so are 10 seconds.
  code=0
  TMPDIR=$scratch "$out/$target" -max_total_time="$seconds" -max_len=16384 -timeout=10 -malloc_limit_mb=64 \
    -rss_limit_mb=2048 -print_final_stats=1 -artifact_prefix="$out/$target.findings/" \
    "$out/$target.inputs" "tests/fuzz/corpus/$target" >"$log" 2>&1 || code=$?
  executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
  if [[ $code == 0 ]]; then
    echo "$target: ${executions:-0} executions, no finding"
  else
    found=1
    echo "$target: ${executions:-?} executions, a finding, see $log:"
    grep -m 3 -E '^broken property|ERROR|runtime error|Test unit written' "$log" || tail -n 3 "$log"
  fi
done
exit $found
