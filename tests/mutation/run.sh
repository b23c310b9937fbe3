#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# Do the tests see a wrong operator?   bash tests/mutation/run.sh [OPTION...]
# Changes one operator, bound, sign or constant of a header at a time, in a copy of include/, and builds and runs the
# test programs of its folder against the copy, the likeliest first, and those that must not compile, until one fails. Eigen alone, -O1, x86-64-v3, Eigen's
# and libstdc++'s assertions and the bounds of arrays on; shift/ and attention/ in float alone.
#   --count N          so many mutants in all, the same number of each folder (60)
#   --seed S           another draw (1)
#   --folder F         core, schedule, shift or attention alone; may be given again
#   --only FILE:LINE   every mutant of one line, such as shift/run.hpp:40; `--only FILE` of one header
#   --jobs J           so many at a time (1)
#   --retry            those that survived before once more, after tests were added
#   --list             print the mutants and build nothing
# A line per mutant: place, from -> to, and killed (by which program), SURVIVED, equivalent (explained in
# equivalent.txt beside this script), stillborn (does not compile) or unseen (not compiled for this processor); the last
# two do not count. What is known is kept in build/mutation/results.tsv, so that a run that was ended goes on where it
# was. Exits with 1 where one survived. Some 20 s of processor time per mutant, three minutes for one that survives.
set -euo pipefail
export LC_ALL=C.UTF-8  # numbers with a point
unset CDPATH           # a cd that prints nothing
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
bash "$root/.ci/setup" tests
exec python3 -B "$root/tests/mutation/run.py" "$@"
