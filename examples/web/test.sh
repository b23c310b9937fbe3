#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# Builds the page and goes through it with a headless Chromium:   bash examples/web/test.sh
# Compares it with the tool hsm_lm, and leaves pictures of it in build/web/pictures.
set -euo pipefail
export LC_ALL=C.UTF-8  # numbers with a point
unset CDPATH           # a cd that prints nothing
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
if [[ $# -gt 0 ]]; then
  echo "test.sh: takes no arguments, got '$1'" >&2
  exit 2
fi
work=build/web

bash .ci/setup web web-tests
bash examples/web/build.sh
if [[ ! -d $work/node/node_modules/playwright-core ]]; then
  mkdir -p "$work/node"
  npm install --prefix "$work/node" --no-audit --no-fund --silent playwright-core@1
fi

: >"$work/server.log"  # nothing of the last one can be read
python3 -u -m http.server 0 --bind 127.0.0.1 --directory "$work/site" >"$work/server.log" 2>&1 &
server=$!
trap 'kill "$server"' EXIT
for _ in {1..50}; do
  address=$(sed -n 's/.*(\(http:[^)]*\)).*/\1/p' "$work/server.log")
  if [[ -n $address ]]; then break; fi
  sleep 0.1
done
if [[ -z $address ]]; then
  echo "test.sh: no server came up, see $work/server.log" >&2
  exit 1
fi
node examples/web/tests/all.mjs "$address" "$work"
