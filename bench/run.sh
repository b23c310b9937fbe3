#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# Builds the benchmarks for this machine and runs them:
#   bash bench/run.sh [--products eigen|blas] [ARGUMENT OF hsm_bench...]
# Products are by OpenBLAS where it is there, else by Eigen alone. See bench/main.cpp for the other arguments.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

products=""
if [[ "${1:-}" == --products ]]; then
  products=${2:-}
  if [[ "$products" != eigen && "$products" != blas ]]; then
    echo "bench/run.sh: --products takes eigen or blas, got '$products'" >&2
    exit 2
  fi
  shift 2
fi
bash "$root/.ci/setup" bench
bash "$root/.ci/build" bench >&2
folder=$root/build/bench/bench
if [[ -z "$products" ]]; then
  products=eigen
  if [[ -x $folder/hsm_bench_blas ]]; then products=blas; fi
fi
exec "$folder/hsm_bench_$products" "$@"
