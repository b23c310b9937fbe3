#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# What a sequence that is cut over ranks costs:   bash bench/ranks/run.sh
# Counts what 1 to 4 ranks send, measures the time of a token in a layer, and writes bench/ranks/table.md (cost.py).
#   bash bench/ranks/run.sh --prefill TOKENS [FEED-FORWARD]
# reads a text of so many tokens (4194304) through an 8-layer (a,b) language model on one rank and on two, and prints the
# memory and the speed of each.
set -euo pipefail
export LC_ALL=C.UTF-8  # numbers with a point
unset CDPATH           # a cd that prints nothing
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
source "$root/bench/support/arguments.sh"

if [[ ${1-} == --prefill ]]; then
  expect_numbers bench/ranks/run.sh "TOKENS and FEED-FORWARD" 2 "${@:2}"
elif [[ $# -gt 0 ]]; then
  echo "bench/ranks/run.sh: expected nothing or --prefill TOKENS [FEED-FORWARD], got '$1'" >&2
  exit 2
fi

bash "$root/.ci/setup" bench mpi
bash "$root/.ci/build" bench >&2
program=$root/build/bench/bench/hsm_bench_ranks
export OPENBLAS_NUM_THREADS=1 OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1

over() {
  mpirun -n "$1" --oversubscribe --mca mpi_yield_when_idle 1 "$program" "${@:2}"
}

if [[ ${1-} == --prefill ]]; then
  tokens=${2:-4194304}
  forward=${3:-1024}
  over 1 extend "$tokens" "$forward"
  over 1 prefill "$tokens" "$forward"
  over 2 prefill "$tokens" "$forward"
  exit
fi

lines=$(mktemp)
table=$(mktemp)
trap 'rm -f "$lines" "$table"' EXIT
over 1 compute >"$lines"
for ranks in 1 2 3 4; do over "$ranks" exchange | grep -v machine >>"$lines"; done
python3 "$root/bench/ranks/cost.py" "$lines" >"$table"
cat "$table" >"$root/bench/ranks/table.md"
echo "bench/ranks/table.md is written" >&2
