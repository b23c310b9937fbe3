#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# Compiles every tests/**/must_not_compile/*.cpp and checks that the compiler says the sentence of its line
# "// expect: sentence", with several lines each of them, as often as it stands there; a file that expects "nothing"
# is a control and must compile.
#   CXX=g++ EIGEN=/usr/include/eigen3 [INCLUDE=include] bash tests/must_not_compile.sh [FOLDER]
# FOLDER: those of tests/FOLDER alone.
#
# The files of a folder are compiled as one, and its controls as another, each in a namespace of its own behind what any
# of them includes: alone, each would take as long as all. A sentence is said of the file that the lines of the
# compiler named last before it (g++), or that its error or the notes behind name (clang++).
set -euo pipefail
export LC_ALL=C.UTF-8  # numbers with a point
unset CDPATH           # a cd that prints nothing
tests=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
compiler=${CXX:-c++}
eigen=${EIGEN:-/usr/include/eigen3}
include=${INCLUDE:-$tests/../include}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

flags=(-std=c++20 -fsyntax-only -w -I"$include" -isystem "$eigen")
clang=""
if "$compiler" --version | grep -q clang; then
  flags+=(-ferror-limit=0 -fno-caret-diagnostics)
  clang=yes
fi

# The words of a file or message, one space between any two: compilers and static_asserts break lines anywhere.
words() { tr -s '[:space:]' ' '; }

controls=0
cases=0
failures=0
fail() {
  echo "$1" >&2
  failures=$((failures + 1))
}

# Compiles these files of a folder as one; what is said stands in $work/said, its exit code in `status`.
compile() {
  local folder=$1
  shift
  {
    grep -h '^#include <' "$folder"/*.[ch]pp | sort -u
    grep -h '^#include "' "$@" | sort -u || true
    for file in "$@"; do echo "namespace case_$(basename "$file" .cpp) {"$'\n'"#include \"$file\""$'\n'"}"; done
  } >"$work/all.cpp"
  status=0
  "$compiler" "${flags[@]}" -I"$folder" "$work/all.cpp" >"$work/said" 2>&1 || status=$?
}

# What was said of a file: by clang in the errors, each with its notes, whose first named file it is.
said_of() {
  awk -v folder="$(dirname "$1")/" -v name="$1" -v clang="$clang" '
    clang && /: (fatal )?error: / { if (current == name) print said; said = current = "" }
    { at = index($0, folder)
      if (at && !(clang && current) && match(substr($0, at + length(folder)), /^[^:,]*\.cpp/))
        current = substr($0, at, length(folder) + RLENGTH)
      if (clang) said = said $0 "\n" }
    !clang && current == name
    END { if (clang && current == name) print said }' "$work/said" | words
}

while IFS= read -r folder; do
  refused=() accepted=()
  for file in "$folder"/*.cpp; do
    case $(sed -n 's|^// expect: ||p' "$file" | head -1) in
      "") fail "${file#"$tests/"}: has no line '// expect: sentence'" ;;
      nothing) accepted+=("$file") ;;
      *) refused+=("$file") ;;
    esac
  done
  controls=$((controls + ${#accepted[@]}))
  cases=$((cases + ${#refused[@]}))
  if [[ ${#accepted[@]} -gt 0 ]]; then
    compile "$folder" "${accepted[@]}"
    if [[ $status -ne 0 ]]; then fail "$folder: the controls must compile, but: $(<"$work/said")"; fi
  fi
  if [[ ${#refused[@]} -eq 0 ]]; then continue; fi
  compile "$folder" "${refused[@]}"
  for file in "${refused[@]}"; do
    output=$(said_of "$file")
    while IFS= read -r sentence; do
      wanted=$(grep -cxF -- "// expect: $sentence" "$file")
      said=$({ grep -oF -- "$sentence" <<<"$output" || true; } | wc -l)
      if [[ $said -lt $wanted ]]; then
        fail "${file#"$tests/"}: expected '$sentence' $wanted times, said $said times in: $output"
      fi
    done < <(sed -n 's|^// expect: ||p' "$file" | sort -u)
  done
done < <(find "$tests/${1-}" -type d -name must_not_compile | sort)

if [[ $cases -eq 0 || $controls -eq 0 ]]; then fail "found $cases cases and $controls controls"; fi
echo "$cases cases, $controls controls, $failures failures"
[[ $failures -eq 0 ]]
