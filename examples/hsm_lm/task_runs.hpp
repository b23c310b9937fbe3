// SPDX-License-Identifier: MIT
//
// All runs of `hsm_lm task`, with progress, into a table of runs.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <string>

#include "examples/hsm_lm/interrupt.hpp"
#include "examples/hsm_lm/task_results.hpp"
#include "examples/support/progress.hpp"

namespace hsm::examples {

/// All runs of a plan, one after another; those that the table has are left out.
class TaskRuns {
 public:
  TaskRuns(const TaskOptions& options, const TaskPlan& plan, RunTable& table, Workspace& workspace)
      : options_(options), plan_(plan), table_(table), workspace_(workspace) {
    each([&](const Run& run) { done_ += table_.find(run.key) != nullptr; });
    all_ = plan.tasks.size() * plan.contenders.size() * options.rates.size() * options.seeds.size();
    left_ = static_cast<double>(all_ - done_) * static_cast<double>(options.steps);
  }

  std::size_t all() const { return all_; }
  std::size_t done() const { return done_; }
  /// The signal that ended them; 0 if none came.
  int signal() const { return guard_.signal(); }

  /// Returns whether all were run; false after a signal.
  bool run() {
    each([&](const Run& run) {
      if (interrupted_ || table_.find(run.key) != nullptr) return;
      one(run);
    });
    line_.clear();
    return !interrupted_;
  }

 private:
  using Clock = std::chrono::steady_clock;

  struct Run {
    const Task& task;
    const Contender& contender;
    double rate;
    std::uint64_t seed;
    Cells key;
  };

  /// A seed at a time, so that a first result of everything is there early.
  template <class F>
  void each(F&& f) const {
    for (const std::uint64_t seed : options_.seeds) {
      for (std::size_t t = 0; t < plan_.tasks.size(); ++t) {
        for (const Contender& contender : plan_.contenders) {
          for (const double rate : options_.rates)
            f(Run{plan_.tasks[t], contender, rate, seed, task_key(plan_, t, contender, rate, seed)});
        }
      }
    }
  }

  void one(const Run& run) {
    std::string what =
        format("run %zu/%zu: %s, rate %g, seed %llu", done_ + 1, all_, run.contender.name.c_str(), run.rate,
               static_cast<unsigned long long>(run.seed));
    if (plan_.by_distance()) what += ", distance " + run.key.front();
    const TaskTraining training{options_.steps, options_.batch, run.rate, run.seed, options_.sequences};
    const TaskOutcome outcome =
        run_task(run.task, run.contender.config, training, workspace_, [&](const TaskProgress& p) {
          if (line_.due()) line_.update(what + progress_text(p));
          return guard_.signal() == 0;
        });
    interrupted_ = outcome.stopped;
    if (outcome.stopped) return;
    table_.add(run.key, task_cells(run.contender, outcome, options_.threads.threads));
    steps_ += static_cast<double>(options_.steps);
    ++done_;
    // Distances make hundreds of short runs.
    const std::string end =
        format(": accuracy %.1f %%, %.1f s", 100 * outcome.test.all.share(), outcome.seconds);
    plan_.by_distance() ? line_.update(what + end) : line_.keep(what + end);
  }

  std::string progress_text(const TaskProgress& p) const {
    const double steps = steps_ + static_cast<double>(p.step);
    const double seconds = std::chrono::duration<double>(Clock::now() - start_).count();
    return format(", step %td/%td  loss %.3f  %.1f steps/s  %s left", p.step, options_.steps, p.loss,
                  steps / std::max(seconds, 1e-9), duration_text(seconds / steps * (left_ - steps)).c_str());
  }

  const TaskOptions& options_;
  const TaskPlan& plan_;
  RunTable& table_;
  Workspace& workspace_;
  std::size_t all_ = 0, done_ = 0;
  double left_ = 0, steps_ = 0;  // steps that were left at the start, and those run since
  bool interrupted_ = false;
  ProgressLine line_{};
  InterruptGuard guard_{options_.out.empty() ? kLostRunsWords : kRunsWords};
  Clock::time_point start_ = Clock::now();
};

}  // namespace hsm::examples
