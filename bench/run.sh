#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# Builds the benchmarks for this machine and runs them, in about a quarter of an hour:
#   bash bench/run.sh [--products eigen|blas] [--figures] [ARGUMENT OF hsm_bench...]
#   --products   whose matrix products: OpenBLAS where it is there (the default), or Eigen alone
#   --figures    then make the pictures and tables of bench/figures and the table of the README from this run
# The rows also go to build/bench/results.json. See bench/main.cpp for the other arguments.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

products=""
figures=no
arguments=()
json=$root/build/bench/results.json
while [[ $# -gt 0 ]]; do
  case "$1" in
    --products)
      products=${2-}
      if [[ "$products" != eigen && "$products" != blas ]]; then
        echo "bench/run.sh: --products takes eigen or blas, got '$products'" >&2
        exit 2
      fi
      shift
      ;;
    --figures) figures=yes ;;
    --json | --json=*)
      if [[ $1 == --json=* ]]; then set -- --json "${1#*=}" "${@:2}"; fi
      json=${2-}
      if [[ -z "$json" ]]; then
        echo "bench/run.sh: --json takes a file, got nothing" >&2
        exit 2
      fi
      shift
      ;;
    *) arguments+=("$1") ;;
  esac
  shift
done
bash "$root/.ci/setup" bench
bash "$root/.ci/build" bench >&2
folder=$root/build/bench/bench
if [[ -z "$products" ]]; then
  products=eigen
  if [[ -x $folder/hsm_bench_blas ]]; then products=blas; fi
fi
status=0
"$folder/hsm_bench_$products" --json "$json" "${arguments[@]}" || status=$?
if [[ $figures == yes && $status -le 1 ]]; then bash "$root/bench/figures.sh" "$json"; fi
exit $status
