#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# Builds the benchmarks for this machine and runs them, in about 25 minutes and 2.4 GB, with --figures 10 minutes more:
#   bash bench/run.sh [--products eigen|blas] [--figures] [ARGUMENT OF hsm_bench...]
#   --products   whose matrix products: OpenBLAS where it is there (the default), or Eigen alone
#   --figures    then make the pictures and tables of bench/figures and the table of the README from this run, and where
#                PyTorch is installed the table of whole models beside it
# The rows of all cases also go to build/bench/results.json, those of some only where --json says. See bench/main.cpp for
# the other arguments.
#
#   bash bench/run.sh --compare REVISION [--products eigen|blas] [--loss PERCENT] [--benchmark_filter=REGEX] [--json FILE]
# runs each case in turns with the case of that name of a revision of this repository, prints how much faster it is now,
# and exits with 1 where a case lost more than PERCENT (3). Each is built from the bench/ of its own revision, since the
# names of the library change; a case that only one of them has is left out.
set -euo pipefail
export LC_ALL=C.UTF-8  # numbers with a point
unset CDPATH           # a cd that prints nothing
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

fail() {
  echo "bench/run.sh: $1" >&2
  exit 2
}

products=""
figures=no
revision=""
arguments=()
json=""
while [[ $# -gt 0 ]]; do
  if [[ $1 == --json=* || $1 == --products=* || $1 == --compare=* ]]; then set -- "${1%%=*}" "${1#*=}" "${@:2}"; fi
  case "$1" in
    --products)
      products=${2-}
      if [[ "$products" != eigen && "$products" != blas ]]; then fail "--products takes eigen or blas, got '$products'"; fi
      shift
      ;;
    -h | --help)  # the heads of this file and of bench/main.cpp
      sed -n '4,/^[^#]/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
      sed -n '3,/^[^/]/s|^// \{0,1\}||p' "$root/bench/main.cpp"
      exit
      ;;
    --figures) figures=yes ;;
    --compare)
      revision=${2-}
      if [[ -z "$revision" ]]; then fail "--compare takes a revision, got nothing"; fi
      shift
      ;;
    --json)
      json=${2-}
      if [[ -z "$json" ]]; then fail "--json takes a file, got nothing"; fi
      shift
      ;;
    *) arguments+=("$1") ;;
  esac
  shift
done
some=""  # the argument with which not all cases run
for argument in "${arguments[@]}"; do
  if [[ "$argument" == --quick || "$argument" == --benchmark_* ]]; then some=$argument; fi
done
if [[ $figures == yes && -n $some && -z "$revision" ]]; then fail "--figures are made from all cases, not with $some"; fi
if [[ -n "$revision" ]]; then
  if [[ $figures == yes ]]; then fail "--figures are made from a run of their own, not from --compare"; fi
  for argument in "${arguments[@]}"; do
    if [[ $argument == --strict ]]; then fail "--compare has no targets for --strict; --loss says what it bears"; fi
  done
  commit=$(git -C "$root" rev-parse --verify --quiet "$revision^{commit}") || fail "no revision '$revision' here"
fi

bash "$root/.ci/setup" bench
bash "$root/.ci/build" bench >&2
folder=$root/build/bench/bench
if [[ -z "$products" ]]; then
  products=eigen
  if [[ -x $folder/hsm_bench_blas ]]; then products=blas; fi
fi

if [[ -n "$revision" ]]; then
  before=$root/build/before/${commit:0:12}
  mkdir -p "$before"
  rm -rf "$before"/{bench,include,tests}
  git -C "$root" archive "$commit" CMakeLists.txt CMakePresets.json .ci bench include tests/reference |
    tar -C "$before" -x
  bash "$before/.ci/build" bench >&2
  exec python3 -B "$root/bench/compare.py" "$before/build/bench/bench/hsm_bench_$products" \
    "$folder/hsm_bench_$products" ${json:+--json "$json"} "${arguments[@]}"
fi

status=0
if [[ -z $json && -z $some ]]; then json=$root/build/bench/results.json; fi
"$folder/hsm_bench_$products" ${json:+--json "$json"} "${arguments[@]}" || status=$?
if [[ $figures == yes && $status -le 1 ]]; then
  bash "$root/bench/figures.sh" "$json"
  # Whole models beside PyTorch, where that is installed.
  if /usr/bin/python3 -c 'import torch' 2>/dev/null; then
    bash "$root/.ci/setup" examples
    bash "$root/.ci/build" examples >&2
  fi
  /usr/bin/python3 "$root/bench/beside_torch.py" --out "$root/bench/figures/beside_torch.md" || status=2
fi
exit $status
