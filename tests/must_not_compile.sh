#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# Compiles every tests/**/must_not_compile/*.cpp and checks that the compiler says the sentence of its line
# "// expect: sentence", with several lines each of them, as often as it stands there; a file that expects "nothing"
# is a control and must compile.
#   CXX=g++ EIGEN=/usr/include/eigen3 [INCLUDE=include] bash tests/must_not_compile.sh [FOLDER]
# FOLDER: those of tests/FOLDER alone.
set -euo pipefail
tests=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
compiler=${CXX:-c++}
eigen=${EIGEN:-/usr/include/eigen3}
include=${INCLUDE:-$tests/../include}

# The words of a file or message, one space between any two: compilers and static_asserts break lines anywhere.
words() { tr -s '[:space:]' ' '; }

controls=0
cases=0
failures=0
fail() {
  echo "$1" >&2
  failures=$((failures + 1))
}

while IFS= read -r file; do
  name=${file#"$tests/"}
  mapfile -t sentences < <(sed -n 's|^// expect: ||p' "$file")
  if [[ ${#sentences[@]} -eq 0 ]]; then
    fail "$name: has no line '// expect: sentence'"
    continue
  fi
  status=0
  output=$("$compiler" -std=c++20 -fsyntax-only -I"$include" -isystem "$eigen" "$file" 2>&1) || status=$?
  if [[ ${sentences[0]} == nothing ]]; then
    controls=$((controls + 1))
    if [[ $status -ne 0 ]]; then fail "$name: must compile, but: $output"; fi
  else
    cases=$((cases + 1))
    if [[ $status -eq 0 ]]; then
      fail "$name: compiles, but must not"
    fi
    while IFS= read -r sentence; do
      wanted=$(printf '%s\n' "${sentences[@]}" | grep -cxF -- "$sentence")
      said=$(words <<<"$output" | { grep -oF -- "$sentence" || true; } | wc -l)
      if [[ $said -lt $wanted ]]; then
        fail "$name: expected '$sentence' $wanted times, said $said times in: $output"
      fi
    done < <(printf '%s\n' "${sentences[@]}" | sort -u)
  fi
done < <(find "$tests/${1-}" -path '*/must_not_compile/*.cpp' | sort)

if [[ $cases -eq 0 || $controls -eq 0 ]]; then fail "found $cases cases and $controls controls"; fi
echo "$cases cases, $controls controls, $failures failures"
[[ $failures -eq 0 ]]
