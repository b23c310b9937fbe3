#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# Builds the benchmarks for this machine and runs them:   bash bench/run.sh [ARGUMENT OF hsm_bench...]
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

bash "$root/.ci/setup" bench
bash "$root/.ci/build" bench >&2
exec "$root/build/bench/bench/hsm_bench" "$@"
