// SPDX-License-Identifier: MIT
//
// A case at a time, run by run, at another program's word: two builds of hsm_bench can so be timed in turns
// (bench/compare.py). A line in, a line out:
//
//   list          the names of all cases, one a line, then an empty line
//   make NAME     gives up the former case, sets this one up, verifies it and warms it up: "ok" or "wrong: ..."
//   run           times one run of it: seconds
//   drop          gives the case up: "ok"
#pragma once

#include <iosfwd>

namespace hsm::bench {

/// Answers until `in` ends.
void serve(std::istream& in, std::ostream& out);

}  // namespace hsm::bench
