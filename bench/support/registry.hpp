// SPDX-License-Identifier: MIT
//
// Cases, and how they become rows. A case is verified before it is timed, is run in turns with its yardstick,
// and has a name such as mixer/ab/forward/T=1024/threads=2. Google Benchmark selects, names and writes
// out the cases, under that name with /iterations:1/manual_time behind it, since the turns are taken inside
// (measure.hpp). A case can also be timed run by run, for comparisons of two builds (serve.hpp).
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace hsm::bench {

/// A thing to time, set up when its turn comes and given up after it.
struct Case {
  std::function<void()> work;
  std::function<void()> yardstick;  ///< may be empty
  std::string yardstick_name;       ///< such as "copy", "sgemm" or "attention"
  double scale =
      1;  ///< figure = scale * yardstick time / case time, e.g. flop of the case over flop of the yardstick
  double tokens = 0;                    ///< per run; 0 where it does not apply
  double bytes = 0;                     ///< moved per run, read and written
  double flop = 0;                      ///< per run
  std::function<std::string()> verify;  ///< "" where the result is right, else what is wrong
  double budget = 0.4;                  ///< seconds
  int attempts = 1;                     ///< how often at most, where the spread stays above kSteady
};

/// How a figure is judged.
struct Target {
  double least = 0;  ///< of the figure; 0 = reported only
};

/// All cases, selected or not, in the order in which they were added.
struct Entry {
  std::string name;
  std::function<std::unique_ptr<Case>()> make;
};
const std::vector<Entry>& entries();

/// Adds a case under `name`.
void add_case(const std::string& name, Target target, std::function<std::unique_ptr<Case>()> make);

/// The rows of this run, in the order in which they were made.
struct Row {
  std::string name;
  double seconds = 0, figure = 0, spread = 0, target = 0;
  double tokens_per_second = 0, gigabytes_per_second = 0, gigaflops = 0;
  int pairs = 0;
  bool steady = true;  ///< whether the spread stayed within kSteady
  std::string yardstick = {};
  std::string error = {};
};
std::vector<Row>& rows();

}  // namespace hsm::bench
