#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# Builds the page and serves it to this machine alone:   bash examples/web/run.sh [PORT]
# The first time it compiles the tool and the library and trains a model, some minutes in all; Ctrl-C ends it.
set -euo pipefail
export LC_ALL=C.UTF-8  # numbers with a point
unset CDPATH           # a cd that prints nothing
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

port=${1:-8000}
if [[ ! $port =~ ^[0-9]+$ ]]; then
  echo "run.sh: the port must be a whole number, got '$port'" >&2
  exit 2
fi
bash "$root/examples/web/build.sh" >&2
echo "http://127.0.0.1:$port/"
exec python3 -m http.server "$port" --bind 127.0.0.1 --directory "$root/build/web/site"
