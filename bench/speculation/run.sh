#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# What a draft is worth:   bash bench/speculation/run.sh --text FILE [PROMPTS [TOKENS [K]]]
# Trains a model of 4.3 M parameters and a draft of 0.3 M on a text, in some ten minutes, if build/speculation does
# not hold them yet for this text; then writes after 1000 prompts with the draft and without, and bench/speculation/table.md.
set -euo pipefail
export LC_ALL=C.UTF-8  # numbers with a point
unset CDPATH           # a cd that prints nothing
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
source "$root/bench/support/arguments.sh"

if [[ ${1-} != --text || ! -f ${2-} ]]; then
  echo "bench/speculation/run.sh: expected --text FILE, got '${*:1:2}'" >&2
  exit 2
fi
text=$2
shift 2
expect_numbers bench/speculation/run.sh "PROMPTS, TOKENS and K" 3 "$@"

bash "$root/.ci/setup" bench examples
bash "$root/.ci/build" examples >&2
bash "$root/.ci/build" bench >&2
work=$root/build/speculation/$(sha256sum "$text" | cut -c 1-16)
mkdir -p "$work"
export OPENBLAS_NUM_THREADS=1

# train NAME OPTION...
train() {
  if [[ ! -f $work/$1.safetensors ]]; then
    "$root/build/examples/examples/hsm_lm" train --text "$text" --threads 1 --seed 1 --batch 8 --context 128 \
      --positions none --out "$work/unfinished.safetensors" "${@:2}" >&2
    mv "$work/unfinished.safetensors" "$work/$1.safetensors"  # what is interrupted saves its model too
  fi
}
train model --layers 8*ab --width 256 --feed-forward 1024 --steps 300
train draft --layers 4*ab --width 96 --feed-forward 384 --steps 1000

# Prompts from the last twentieth, which train keeps for validation.
tail -c $(($(stat -c %s "$text") / 20)) "$text" >"$work/prompts.txt"
"$root/build/bench/bench/hsm_bench_speculation" "$work/model.safetensors" "$work/draft.safetensors" "$work/prompts.txt" "$@" |
  tee "$work/table.md"
mv "$work/table.md" "$root/bench/speculation/table.md"
