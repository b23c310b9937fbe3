#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# The commands of the record in bench/paper: recipes of equal size on one text, by hsm_lm compare, and at small tasks.
#
#   bash bench/paper/run.sh quick
#       on the built-in stories, in minutes: what anyone can repeat exactly; writes bench/paper/stories*
#   bash bench/paper/run.sh text --text FILE [--valid FILE] [--name NAME] [OPTION OF hsm_lm compare...]
#       on a text of your own, in hours at the default sizes; writes bench/paper/NAME* (text)
#   bash bench/paper/run.sh task TASK [OPTION OF hsm_lm task...]
#       recall, selective-copy, copy, induction, parity or listops; writes bench/paper/TASK*
#
# --speeds measures speeds after all training, best on a machine that does nothing else.
# All resume where they were stopped, and only report where all is done. Seeds and sizes settle all losses, so
# another machine finds the same but for the last digits; the columns of seconds and speeds are of the machine.
set -euo pipefail
export LC_ALL=C.UTF-8  # numbers with a point
unset CDPATH           # a cd that prints nothing
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
here=$root/bench/paper

fail() {
  echo "bench/paper/run.sh: $1" >&2
  exit 2
}

form=${1-}
if [[ $# -gt 0 ]]; then shift; fi
task=
if [[ $form == task && $# -gt 0 ]]; then
  task=$1
  shift
fi
name=""
text=no
arguments=()
while [[ $# -gt 0 ]]; do
  if [[ $1 == --name=* || $1 == --text=* ]]; then set -- "${1%%=*}" "${1#*=}" "${@:2}"; fi
  case "$1" in
    --name)
      if [[ $form != text ]]; then fail "--name goes with text alone, $form has names of its own"; fi
      name=${2-}
      if [[ ! "$name" =~ ^[A-Za-z0-9._-]+$ ]]; then fail "--name takes letters, digits and . _ -, got '$name'"; fi
      shift
      ;;
    --text)
      if [[ -z ${2-} ]]; then fail "--text takes a file, got nothing"; fi
      text=yes
      arguments+=("$1" "$2")
      shift
      ;;
    --out | --out=*) fail "the files are bench/paper/*; of text --name says how they begin" ;;
    *) arguments+=("$1") ;;
  esac
  shift
done
case "$form" in
  quick)
    if [[ $text == yes ]]; then fail "quick is on the built-in stories; text takes --text FILE"; fi
    name=stories
    ;;
  text) if [[ $text == no ]]; then fail "text needs --text FILE"; fi ;;
  task)
    if [[ -z $task || $task == -* || $text == yes ]]; then fail "task takes the name of one, and no text, got '$task'"; fi
    ;;
  *) fail "takes quick, text or task, got '$form'" ;;
esac

bash "$root/.ci/setup" examples
bash "$root/.ci/build" examples >&2
if [[ $form == task ]]; then
  exec "$root/build/examples/examples/hsm_lm" task "$task" --out "$here/$task" ${arguments[@]+"${arguments[@]}"}
fi
exec "$root/build/examples/examples/hsm_lm" compare --out "$here/${name:-text}" ${arguments[@]+"${arguments[@]}"}
