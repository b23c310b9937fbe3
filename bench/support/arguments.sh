# SPDX-License-Identifier: MIT
#
# For scripts, which source it: what their arguments must be, before anything is built.

# expect_numbers SCRIPT NAMES MOST ARGUMENT...: at most MOST whole numbers above 0, or this ends with 2.
expect_numbers() {
  local script=$1 names=$2 most=$3 number
  shift 3
  if [[ $# -gt $most ]]; then
    echo "$script: expected $names at most, got also '${*:most+1:1}'" >&2
    exit 2
  fi
  for number in "$@"; do
    if [[ ! $number =~ ^[1-9][0-9]*$ ]]; then
      echo "$script: $names must be whole numbers above 0, got '$number'" >&2
      exit 2
    fi
  done
}
