// SPDX-License-Identifier: MIT
#include "bench/support/registry.hpp"

#include <benchmark/benchmark.h>

#include "bench/support/measure.hpp"

namespace hsm::bench {

std::vector<Row>& rows() {
  static std::vector<Row> all;
  return all;
}

namespace {

std::vector<Entry>& all_entries() {
  static std::vector<Entry> all;
  return all;
}

void run(benchmark::State& state, const std::string& name, Target target,
         const std::function<std::unique_ptr<Case>()>& make) {
  const std::unique_ptr<Case> made = make();
  Row row;
  row.name = name;
  row.target = target.least;
  row.yardstick = made->yardstick_name;
  row.error = made->verify ? made->verify() : "";
  if (!row.error.empty()) {
    for ([[maybe_unused]] auto _ : state) {
    }
    state.SkipWithError(row.error.c_str());
    rows().push_back(row);
    return;
  }
  const Measured measured = measure_steadily(made->work, made->yardstick, made->budget, made->attempts);
  for ([[maybe_unused]] auto _ : state) state.SetIterationTime(measured.seconds);
  row.seconds = measured.seconds;
  row.figure = made->scale * measured.ratio;
  row.spread = measured.spread;
  row.pairs = measured.pairs;
  row.steady = measured.steady();
  row.tokens_per_second = made->tokens / measured.seconds;
  row.gigabytes_per_second = made->bytes / measured.seconds * 1e-9;
  row.gigaflops = made->flop / measured.seconds * 1e-9;
  state.counters["figure"] = row.figure;
  state.counters["target"] = row.target;
  state.counters["spread"] = row.spread;
  state.counters["pairs"] = row.pairs;
  if (made->tokens > 0) state.counters["tokens_per_second"] = row.tokens_per_second;
  if (made->bytes > 0) state.counters["gigabytes_per_second"] = row.gigabytes_per_second;
  if (made->flop > 0) state.counters["gigaflops"] = row.gigaflops;
  if (!row.yardstick.empty()) {
    state.counters["yardstick_seconds"] = measured.yardstick_seconds;
    state.SetLabel(row.yardstick);
  }
  rows().push_back(row);
}

}  // namespace

const std::vector<Entry>& entries() { return all_entries(); }

void add_case(const std::string& name, Target target, std::function<std::unique_ptr<Case>()> make) {
  all_entries().push_back({name, make});
  benchmark::RegisterBenchmark(name.c_str(), [=](benchmark::State& state) { run(state, name, target, make); })
      ->Iterations(1)
      ->UseManualTime()
      ->Unit(benchmark::kMillisecond);
}

}  // namespace hsm::bench
