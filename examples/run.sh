#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# Builds the examples for this machine and runs the demonstration of the hsm_lm tool:
#   bash examples/run.sh [--text FILE] [--minutes M] [OPTION OF hsm_lm demo...]
set -euo pipefail
export LC_ALL=C.UTF-8  # numbers with a point
unset CDPATH           # a cd that prints nothing
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

bash "$root/.ci/setup" examples
bash "$root/.ci/build" examples >&2
exec "$root/build/examples/examples/hsm_lm" demo "$@"
