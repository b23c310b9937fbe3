#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# Builds the examples for this machine and runs the demonstration of the hsm_lm tool:
#   bash examples/run.sh [--text FILE] [--minutes M] [OPTION OF hsm_lm demo...]
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

bash "$root/.ci/setup" examples
bash "$root/.ci/build" examples >&2
exec "$root/build/examples/examples/hsm_lm" demo "$@"
