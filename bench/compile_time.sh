#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# What including the library costs a compiler:   bash bench/compile_time.sh [--runs N] [--flags "FLAGS"] [COMPILER...]
# User CPU time of six programs, taken in turns, medians of N >= 5 runs (5 by default; the last two, which take long,
# once), and their ratio to the first:
#   Eigen/Core     includes Eigen/Core, main is empty: what any program on Eigen pays; the yardstick of all others
#   hsm/hsm.hpp    includes the umbrella, main is empty                                target 1.5
#   one mixer      one ScalarPair<float> and its forward on a view                     target 2.0
#   quickstart     examples/quickstart.cpp: forward, backward, step, Eigen expressions    no target, for the record
#   model          a LanguageModel<float> of all layers, its gradients and a step of AdamW        target 30
#   model elsewhere    the same behind `extern template class hsm::LanguageModel<float>;`         target 15
# Without --flags both -O0 and -O2 are measured. Exits with 0 whether targets are met or missed: on a shared
# machine one run decides nothing.
set -euo pipefail
export LC_ALL=C.UTF-8  # numbers with a point
unset CDPATH           # a cd that prints nothing
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

runs=5
levels=(-O0 -O2)
while [[ "${1:-}" == --* ]]; do
  case "$1" in
    --runs) runs=${2:?} ;;
    --flags) levels=("${2:?}") ;;
    *) echo "compile_time.sh: unknown option '$1'; known are --runs N, --flags FLAGS" >&2 && exit 2 ;;
  esac
  shift 2
done
if [[ ! $runs =~ ^[1-9][0-9]{0,5}$ || $runs -lt 5 ]]; then echo "compile_time.sh: --runs must be a whole number from 5 on, got '$runs'" >&2 && exit 2; fi
compilers=("$@")
if [[ $# == 0 ]]; then compilers=(g++ clang++); fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
bash "$root/.ci/setup" tests
read -ra eigen < <(pkg-config --cflags eigen3 | sed 's/-I/-isystem /g')
echo -e '#include <Eigen/Core>\nint main() {}' >"$work/1.cpp"
echo -e '#include <hsm/hsm.hpp>\nint main() {}' >"$work/2.cpp"
cat >"$work/3.cpp" <<'PROGRAM'
#include <hsm/hsm.hpp>
int main() {
  float x[64] = {1}, y[64];
  const hsm::Mixer mixer(hsm::ScalarPair<float>(16), 1);
  mixer.forward(hsm::Tokens<const float>(x, 1, 4, 16), hsm::Tokens<float>(y, 1, 4, 16));
  return y[0] == 1 ? 0 : 1;
}
PROGRAM
cp "$root/examples/quickstart.cpp" "$work/4.cpp"
cat >"$work/5.cpp" <<'PROGRAM'
#include <hsm/training/adamw.hpp>
#include <hsm/training/language_model_loss.hpp>
int main() {
  using Model = hsm::LanguageModel<float>;
  hsm::Random random(1);
  Model model({.width = 64, .feed_forward = 128, .layers = "ab,attention"}, random);
  Model gradients = hsm::zeros_like(model);
  hsm::AdamW<Model> optimizer(model, hsm::AdamWConfig{});
  Model::Saved saved;
  hsm::Workspace workspace;
  const std::vector<std::int32_t> ids(64, 1), targets(64, 2);
  const auto loss = hsm::language_model_gradients(model, ids, targets, 1, 64, saved, gradients, workspace);
  optimizer.step(model, gradients, 0.001);
  return loss.sum > 0 ? 0 : 1;
}
PROGRAM
sed 's/^int main/extern template class hsm::LanguageModel<float>;\n&/' "$work/5.cpp" >"$work/6.cpp"
names=("" "Eigen/Core" "hsm/hsm.hpp" "one mixer" "quickstart" "model" "model elsewhere")
targets=("" "" 1.5 2.0 "" 30 15)

median() { sort -n | awk '{ v[NR] = $1 } END { printf "%.2f", (v[int((NR + 1) / 2)] + v[int(NR / 2) + 1]) / 2 }'; }

TIMEFORMAT=%U
export CCACHE_DISABLE=1  # where the compiler is ccache, as with /usr/lib/ccache in PATH
for compiler in "${compilers[@]}"; do
  for level in "${levels[@]}"; do
    read -ra flags <<<"-std=c++20 $level"
    echo "$("$compiler" --version | head -1): ${flags[*]} -c, medians of $runs, user CPU seconds"
    for ((run = 0; run <= runs; ++run)); do  # run 0 warms the file cache
      for program in 1 2 3 4 5 6; do
        if [[ $program -ge 5 && $run != 1 ]]; then continue; fi
        command=("$compiler" "${flags[@]}" -I "$root/include" "${eigen[@]}" -c "$work/$program.cpp" -o "$work/o")
        if ! seconds=$({ time "${command[@]}" 2>"$work/said"; } 2>&1); then
          echo "bench/compile_time.sh: ${command[*]}" >&2
          cat "$work/said" >&2
          exit 1
        fi
        if [[ $run -gt 0 ]]; then echo "$seconds" >>"$work/$program.times"; fi
      done
    done
    base=$(median <"$work/1.times")
    for program in 1 2 3 4 5 6; do
      awk -v name="${names[$program]}" -v t="$(median <"$work/$program.times")" -v base="$base" -v target="${targets[$program]}" \
        'BEGIN { printf "  %-15s %6.2f s %6.2fx %s\n", name, t, t / base, target == "" ? "" : sprintf("target %.1fx  %s", target, t / base <= target ? "ok" : "missed") }'
      rm "$work/$program.times"
    done
  done
done
