#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# Kills ranks of hsm_lm train with SIGKILL at random moments, one of them or all, and goes on from the checkpoint each time on
# another number of ranks:   bash tests/kill_ranks.sh [--kills 10] [--seed 7] [HSM_LM]
# Holds that all processes have then ended within 10 seconds, mpirun with one sentence, that no model is written, and
# that the losses of all parts together are those of one process that nobody disturbed. By hand, for its time: two kills are
# among the tests (examples/train_ranks_test.cpp).
set -euo pipefail
export LC_ALL=C.UTF-8  # numbers with a point
unset CDPATH           # a cd that prints nothing
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

kills=10
seed=7  # of ten, four kill all ranks
while [[ ${1-} == --* ]]; do
  case "$1" in
    --kills) kills=${2:?} ;;
    --seed) seed=${2:?} ;;
    *) echo "kill_ranks.sh: expected --kills N or --seed N, got '$1'" >&2 && exit 2 ;;
  esac
  shift 2
done
program=$(realpath "${1:-$root/build/tests-gcc/examples/hsm_lm}")

RANDOM=$seed
export OPENBLAS_NUM_THREADS=1 OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
seq 1 3000 >text

run=(train --text text --out model --layers '2*ab,gated' --width 16 --context 16 --batch 12 --threads 1 --dropout 0.1
  --steps $((120 * kills)) --validate-every 25)
fail() {
  echo "kill_ranks.sh: $1" >&2
  tail -n 20 err >&2
  exit 1
}
lines() { if [[ -f log ]]; then wc -l <log; else echo 0; fi; }
milliseconds() { date +%s%3N; }
# One that has ended may still have a number, where nobody has asked how it ended.
lives() { [[ -r /proc/$1/stat ]] && ! grep -q ') Z ' "/proc/$1/stat" 2>/dev/null; }

"$program" "${run[@]}" --log alone >out 2>err || fail "the undisturbed run must end well, got $?"
rm model

for ((kill = 1; kill <= kills; ++kill)); do
  ranks=$((RANDOM % 3 + 2))
  sequence=1
  if ((ranks == 4 && RANDOM % 2 == 0)); then sequence=2; fi
  resume=()
  if [[ -f run ]]; then resume=(--resume run); fi
  before=$(lines)
  mpirun -n $ranks --oversubscribe --mca mpi_yield_when_idle 1 "$program" "${run[@]}" --sequence-ranks $sequence \
    --log log --checkpoint run --checkpoint-every 3 "${resume[@]}" >out 2>err &
  mpirun=$!
  until [[ $(pgrep -c -P $mpirun) == "$ranks" ]]; do
    kill -0 $mpirun 2>/dev/null || fail "the run must begin, got its end"
    sleep 0.01
  done
  # Some are killed before their first step, most after some, between two of them or in a checkpoint; none while MPI begins,
  # when mpirun of Open MPI 4.1 itself may wait for ever, though all ranks have ended.
  until grep -q '^model: ' err; do
    kill -0 $mpirun 2>/dev/null || fail "the run must begin, got its end"
    sleep 0.01
  done
  steps=$((RANDOM % 36))
  if ((steps > 3)); then
    until (($(lines) >= before + steps - 3)); do
      kill -0 $mpirun 2>/dev/null || fail "the run must go on until it is killed, got its end"
      sleep 0.01
    done
  fi
  pause=$((RANDOM % 300))
  sleep 0.$(printf %03d $pause)
  mapfile -t all < <(pgrep -P $mpirun)
  [[ ${#all[@]} == "$ranks" ]] || fail "the run must go on until it is killed, got its end"
  victims=("${all[RANDOM % ranks]}")
  if ((RANDOM % 4 == 0)); then victims=("${all[@]}"); fi
  start=$(milliseconds)
  kill -KILL "${victims[@]}"
  code=0
  wait $mpirun || code=$?
  for rank in "${all[@]}"; do  # mpirun does not wait for those that it ends
    while lives "$rank" && (($(milliseconds) < start + 10000)); do sleep 0.01; done
  done
  took=$(($(milliseconds) - start))
  ((code != 0)) || fail "a run that was killed must fail, got 0"
  ((took < 10000)) || fail "the others must end within 10 s, got $took ms"
  [[ $(grep -c 'exited on signal 9 (Killed)' err) == 1 ]] || fail "one sentence must tell of it"
  [[ ! -s out && ! -f model ]] || fail "a run that was killed must not say that it saved"
  echo "kill $kill: ${#victims[@]} of $ranks ranks (--sequence-ranks $sequence) after $(($(lines) > 0 ? $(lines) - 1 : 0))" \
    "steps; all had ended after $took ms"
done

resume=()
if [[ -f run ]]; then resume=(--resume run); fi
"$program" "${run[@]}" --log log --checkpoint run "${resume[@]}" >out 2>err || fail "the last part must end well, got $?"
awk -F, '
  NR == FNR { loss[FNR] = $3; valid[FNR] = $8; count = FNR; next }
  { rows = FNR }
  FNR > 1 {
    for (i = 1; i <= 2; ++i) {
      gap = i == 1 ? $3 - loss[FNR] : $8 - valid[FNR]
      if (gap < 0) gap = -gap
      if (gap > most) most = gap
    }
  }
  END {
    printf "%d steps; the largest difference of a loss is %.1e\n", rows - 1, most
    exit rows != count || most > 1.1e-5
  }' alone log || fail "the curve must be that of one process within 1e-5, of numbers of 6 digits"
