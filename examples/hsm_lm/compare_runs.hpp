// SPDX-License-Identifier: MIT
//
// All runs of `hsm_lm compare`, with progress, into the tables of runs and curves. With the first seed each contender
// searches its learning rate; the other seeds run at the rate that was chosen.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <string>
#include <vector>

#include "examples/hsm_lm/compare_table.hpp"
#include "examples/hsm_lm/interrupt.hpp"
#include "examples/support/progress.hpp"
#include "examples/support/text.hpp"

namespace hsm::examples {

/// All runs of a plan, one after another; those that the table has are left out.
class CompareRuns {
 public:
  CompareRuns(const CompareOptions& options, const ComparePlan& plan, RunTable& table, RunTable& curves,
              Workspace& workspace)
      : options_(options), plan_(plan), table_(table), curves_(curves), workspace_(workspace) {
    for (const Contender& contender : plan.contenders)
      searches_.push_back(search_of(table, options, contender));
  }

  /// How many runs there are, as far as it is known: a search may add some.
  std::size_t all() const {
    std::size_t runs = searches_.size() * (options_.seeds.size() - 1);
    for (const RateSearch& search : searches_) runs += search.size();
    return runs;
  }
  std::size_t done() const {
    std::size_t runs = 0;
    for (std::size_t c = 0; c < searches_.size(); ++c) {
      const Contender& contender = plan_.contenders[c];
      for (const double rate : searches_[c].rates())
        runs += table_.find(compare_key(contender, rate, options_.seeds.front())) != nullptr;
      if (!finished(searches_[c])) continue;
      for (std::size_t s = 1; s < options_.seeds.size(); ++s)
        runs += table_.find(compare_key(contender, searches_[c].best(), options_.seeds[s])) != nullptr;
    }
    return runs;
  }
  /// The guard that notes signals.
  const InterruptGuard& guard() const { return guard_; }

  /// Returns whether all were run; false after a signal.
  bool run() {
    for (std::size_t c = 0; c < searches_.size() && !interrupted_; ++c) search(c);
    for (std::size_t s = 1; s < options_.seeds.size(); ++s) {
      for (std::size_t c = 0; c < searches_.size() && !interrupted_; ++c)
        one(plan_.contenders[c], searches_[c].best(), options_.seeds[s]);
    }
    line_.clear();
    return !interrupted_;
  }

 private:
  using Clock = std::chrono::steady_clock;

  static bool finished(const RateSearch& search) { return search.all_known() && !search.next(); }

  void search(std::size_t c) {
    const Contender& contender = plan_.contenders[c];
    const std::uint64_t seed = options_.seeds.front();
    while (const auto rate = searches_[c].next()) {
      one(contender, *rate, seed);
      if (interrupted_) return;
      searches_[c].set(*rate, table_.number(compare_key(contender, *rate, seed), "selection_loss"));
    }
  }

  void one(const Contender& contender, double rate, std::uint64_t seed) {
    const Cells key = compare_key(contender, rate, seed);
    if (table_.find(key) != nullptr) return;
    const std::string what = format("run %zu/%zu: %s, rate %g, seed %llu", done() + 1, all(),
                                    contender.name.c_str(), rate, static_cast<unsigned long long>(seed));
    TrainingConfig training;
    training.batch = options_.batch;
    training.steps = plan_.steps;
    training.learning_rate = rate;
    training.seed = seed;
    const CompareOutcome outcome =
        run_compare(plan_.texts, contender.config, training, workspace_, [&](const TrainingProgress& p) {
          if (line_.due()) line_.update(what + progress_text(p));
          return guard_.signal() == 0;
        });
    interrupted_ = outcome.stopped;
    if (interrupted_) return;
    // A program that was killed between the two lines left the first, of the same run.
    if (curves_.find(key) == nullptr) curves_.add(key, curve_cells(outcome));
    table_.add(key, compare_cells(options_, plan_, contender, outcome));
    ++here_;
    line_.keep(what + (outcome.diverged ? ": diverged after " + counted(outcome.steps, "step")
                                        : format(": loss %.4f, %.1f s", outcome.report, outcome.seconds)));
  }

  std::string progress_text(const TrainingProgress& p) const {
    const double runs = here_ + p.fraction, left = static_cast<double>(all() - done()) - p.fraction;
    const double seconds = std::chrono::duration<double>(Clock::now() - start_).count();
    return format(", step %td/%td  loss %.3f  %.0f tokens/s  %s left", p.step, p.steps, p.smoothed_loss,
                  p.tokens_per_second, duration_text(seconds / std::max(runs, 1e-9) * left).c_str());
  }

  const CompareOptions& options_;
  const ComparePlan& plan_;
  RunTable& table_;
  RunTable& curves_;
  Workspace& workspace_;
  std::vector<RateSearch> searches_{};
  double here_ = 0;  // runs since the start
  bool interrupted_ = false;
  ProgressLine line_{};
  InterruptGuard guard_{options_.out.empty() ? kLostRunsWords : kRunsWords};
  Clock::time_point start_ = Clock::now();
};

}  // namespace hsm::examples
