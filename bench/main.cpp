// SPDX-License-Identifier: MIT
//
// hsm_bench: the microbenchmarks. Prints what it runs on, a row per case with target, measured, ok, and exits
// 1 on a wrong result, with --strict also on a missed target. Besides the options of Google Benchmark
// (--benchmark_filter=REGEX, of names as --benchmark_list_tests prints them):
//
//   --threads N      what takes threads runs on N (default: all it may use); what depends on memory and decoding on 1 too
//   --strict         a missed target is a failure
//   --json FILE      write the rows and the machine as JSON, where there are rows
//   --quick          a few small cases only
//   --long           also the prompt of a million tokens, some ten minutes
//   --serve          run nothing, but what standard input asks for (support/serve.hpp)
#include <benchmark/benchmark.h>
#include <sys/resource.h>
#include <unistd.h>
#if defined(HSM_BENCH_OPENBLAS)
#include <cblas.h>
#endif

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iomanip>
#include <iostream>
#include <nlohmann/json.hpp>

#include "bench/suites.hpp"
#include "bench/support/machine.hpp"
#include "bench/support/registry.hpp"
#include "bench/support/serve.hpp"
#include "bench/support/threads.hpp"

namespace {

using hsm::bench::Row;

/// Prints a line per finished case.
class RowReporter : public benchmark::BenchmarkReporter {
 public:
  bool ReportContext(const Context&) override {
    for (const auto& [name, value] : hsm::bench::machine())
      std::printf("%-10s %s\n", name.c_str(), value.c_str());
    std::printf("\n%-54s %12s %9s %8s %8s %7s %7s  %s\n", "case", "time", "Gflop/s", "GB/s", "figure",
                "target", "spread", "");
    return true;
  }
  void ReportRuns(const std::vector<Run>&) override {
    for (; printed_ < hsm::bench::rows().size(); ++printed_) print(hsm::bench::rows()[printed_]);
    std::fflush(stdout);
  }

 private:
  static void print(const Row& row) {
    if (!row.error.empty()) {
      std::printf("%-54s WRONG: %s\n", row.name.c_str(), row.error.c_str());
      return;
    }
    const auto figure = [](double value, const char* format) {
      char text[32] = "";
      if (value > 0) std::snprintf(text, sizeof text, format, value);
      return std::string(text);
    };
    std::printf("%-54s %9.4g ms %9s %8s %8s %7s %6.0f%%  %s%s%s\n", row.name.c_str(), row.seconds * 1e3,
                figure(row.gigaflops, "%.1f").c_str(), figure(row.gigabytes_per_second, "%.1f").c_str(),
                figure(row.figure, "%.3f").c_str(), figure(row.target, "%.2f").c_str(), row.spread * 100,
                row.yardstick.empty() ? "" : ("of " + row.yardstick).c_str(),
                row.target == 0            ? ""
                : row.figure >= row.target ? ", ok"
                                           : ", BELOW",
                row.steady ? "" : ", UNSTEADY");
  }
  std::size_t printed_ = 0;
};

nlohmann::json to_json(const std::vector<Row>& rows) {
  nlohmann::json out;
  for (const auto& [name, value] : hsm::bench::machine()) out["machine"][name] = value;
  for (const Row& row : rows) {
    out["rows"].push_back({{"name", row.name},
                           {"seconds", row.seconds},
                           {"figure", row.figure},
                           {"target", row.target},
                           {"spread", row.spread},
                           {"steady", row.steady},
                           {"pairs", row.pairs},
                           {"yardstick", row.yardstick},
                           {"tokens_per_second", row.tokens_per_second},
                           {"gigabytes_per_second", row.gigabytes_per_second},
                           {"gigaflops", row.gigaflops},
                           {"error", row.error}});
  }
  return out;
}

/// The value of `--name VALUE` or `--name=VALUE` taken out of the arguments; nullptr where it is not given.
const char* take(std::vector<char*>& arguments, const char* name, bool with_value) {
  for (std::size_t i = 1; i < arguments.size(); ++i) {
    const std::size_t length = std::strlen(name);
    if (std::strncmp(arguments[i], name, length) != 0) continue;
    const char* rest = arguments[i] + length;
    if (!with_value && *rest == '\0') {
      arguments.erase(arguments.begin() + static_cast<std::ptrdiff_t>(i));
      return name;
    }
    if (with_value && *rest == '=') {
      arguments.erase(arguments.begin() + static_cast<std::ptrdiff_t>(i));
      return rest + 1;
    }
    if (with_value && *rest == '\0') {
      if (i + 1 >= arguments.size() || std::strncmp(arguments[i + 1], "--", 2) == 0)
        throw std::invalid_argument(std::string(name) + ": expected a value after it, got " +
                                    (i + 1 < arguments.size() ? arguments[i + 1] : "nothing"));
      const char* value = arguments[i + 1];
      arguments.erase(arguments.begin() + static_cast<std::ptrdiff_t>(i),
                      arguments.begin() + static_cast<std::ptrdiff_t>(i) + 2);
      return value;
    }
  }
  return nullptr;
}

int run(std::vector<char*> arguments) {
  const char* threads_text = take(arguments, "--threads", true);
  const char* json_path = take(arguments, "--json", true);
  const bool strict = take(arguments, "--strict", false) != nullptr;
  const bool lengthy = take(arguments, "--long", false) != nullptr;
  const bool quick = take(arguments, "--quick", false) != nullptr;
  const bool serves = take(arguments, "--serve", false) != nullptr;
  const int cores = std::clamp(hsm::available_processors(), 1, 1024);
  char* end = nullptr;
  const long threads = threads_text ? std::strtol(threads_text, &end, 10) : cores;
  if (threads < 1 || threads > 1024 || (end && *end != '\0')) {
    throw std::invalid_argument("--threads: expected 1 to 1024, got " + std::string(threads_text));
  }
  if (json_path && !std::filesystem::is_directory(std::filesystem::absolute(json_path).parent_path()))
    throw std::invalid_argument("--json: expected a file in a folder that is there, got " +
                                std::string(json_path));
  int count = static_cast<int>(arguments.size());
  benchmark::Initialize(&count, arguments.data());
  if (benchmark::ReportUnrecognizedArguments(count, arguments.data())) return 2;
  hsm::bench::add_all({static_cast<int>(threads), quick, lengthy});
  if (serves) {
    std::cout << std::setprecision(9);
    hsm::bench::serve(std::cin, std::cout);
    return 0;
  }
  RowReporter reporter;
  if (benchmark::RunSpecifiedBenchmarks(&reporter) == 0)
    throw std::invalid_argument(
        "--benchmark_filter: expected what the name of some case matches, got what none does");

  const std::vector<Row>& rows = hsm::bench::rows();
  const auto wrong =
      std::count_if(rows.begin(), rows.end(), [](const Row& row) { return !row.error.empty(); });
  const auto missed = std::count_if(
      rows.begin(), rows.end(), [](const Row& row) { return row.error.empty() && row.figure < row.target; });
  rusage used{};
  getrusage(RUSAGE_SELF, &used);
  const auto unsteady = std::count_if(rows.begin(), rows.end(), [](const Row& row) { return !row.steady; });
  std::printf("\n%zu cases, %td wrong, %td below target, %td unsteady; most memory at a time %ld MB\n",
              rows.size(), wrong, missed, unsteady, used.ru_maxrss / 1024);
  if (std::any_of(rows.begin(), rows.end(), [](const Row& row) { return row.yardstick == "sgemm"; }))
    std::printf("sgemm is %s's\n", hsm::bench::sgemm(static_cast<int>(threads)).library());
  if (json_path && !rows.empty()) {
    std::ofstream file(json_path);
    file << to_json(rows).dump(1) << '\n';
    if (!file.flush()) throw std::runtime_error("--json: cannot write " + std::string(json_path));
  }
  return wrong > 0 || (strict && missed > 0) ? 1 : 0;
}

}  // namespace

int main(int argc, char** argv) {
#if defined(HSM_BENCH_OPENBLAS)
  openblas_set_num_threads(1);
#endif
  try {
    return run(std::vector<char*>(argv, argv + argc));
  } catch (const std::exception& error) {
    std::cerr << "hsm_bench: " << error.what() << '\n';
    return 2;
  }
}
