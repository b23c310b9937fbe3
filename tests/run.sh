#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# Builds and runs the tests:   bash tests/run.sh [--clang] [--sanitize address|thread [--tool] | --fast] [-R REGEX]
#   --clang      with clang++ instead of g++
#   --sanitize   with clang++ and a sanitizer: address (with undefined behaviour) or thread (the tests that use threads)
#   --tool       the tool hsm_lm, its tests and those of sizes and schedules too, which --sanitize address leaves out for
#                their time
#   --fast       the tests of values under -ffast-math
#   -R REGEX     only the programs whose name matches, such as core/random
set -euo pipefail
export LC_ALL=C.UTF-8  # numbers with a point
unset CDPATH           # a cd that prints nothing
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

fail() {
  echo "tests/run.sh: $1" >&2
  exit 2
}

compiler=gcc
sanitizer=""
fast=""
purposes=(tests)
selection=()
configuration=()
while [[ $# -gt 0 ]]; do
  case "$1" in
    --clang) compiler=clang ;;
    --sanitize)
      [[ ${2-} == address || ${2-} == thread ]] || fail "--sanitize takes address or thread, got '${2-}'"
      [[ -z $sanitizer ]] || fail "--sanitize is given twice; each sanitizer is a run of its own"
      sanitizer=$2
      compiler=clang
      purposes=(tests sanitizers)
      shift
      ;;
    --fast) fast=-fast ;;
    --tool) configuration=(-D HSM_BUILD_EXAMPLES=ON) ;;
    -R)
      [[ $# -ge 2 ]] || fail "-R takes a regular expression"
      [[ ${#selection[@]} == 0 ]] || fail "-R is given twice; one expression may have several names, a|b"
      selection=(-R "$2")
      shift
      ;;
    *) fail "unknown option '$1'; known are --clang, --sanitize address|thread, --tool, --fast, -R REGEX" ;;
  esac
  shift
done
if [[ -n $sanitizer && -n $fast ]]; then fail "--fast does not go with --sanitize"; fi
if [[ ${#configuration[@]} -gt 0 && $sanitizer != address ]]; then
  fail "--tool goes with --sanitize address alone: the other forms have the tool, or none of its tests"
fi
preset=tests-$compiler$fast${sanitizer:+-$sanitizer}

# The levels that the presets of --fast are compiled for.
level=x86-64
if [[ $compiler == gcc ]]; then level=x86-64-v3; fi
if [[ -n $fast ]] && ! bash "$root/.ci/runs-level" $level; then
  echo "tests/run.sh: this processor does not run $level, the compiler's own level is tried"
  configuration=(-D "CMAKE_CXX_FLAGS_RELEASE=-O3 -ffast-math -DNDEBUG")
fi

bash "$root/.ci/setup" "${purposes[@]}"
bash "$root/.ci/build" "$preset" "${configuration[@]}"

unset "${!GTEST_@}"  # which tests run is said here
export UBSAN_OPTIONS=print_stacktrace=1
log=$root/build/$preset/Testing/Temporary/LastTest.log
ctest --test-dir "$root/build/$preset" --output-on-failure --no-tests=error --parallel "$(bash "$root/.ci/jobs")" "${selection[@]}"
echo "tests/run.sh: $(awk '/^\[==========\] .* ran\./ { n += $2 } END { print n + 0 }' "$log") cases in all"
