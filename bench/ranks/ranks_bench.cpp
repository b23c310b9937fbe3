// SPDX-License-Identifier: MIT
//
// What a sequence that is cut over ranks costs (bench/ranks/README.md), started by mpirun:
//
//   hsm_bench_ranks exchange            bytes and messages that each rank sends, layer by layer, counted
//   hsm_bench_ranks compute             seconds of a token in a block, and of a pair of query and key, on one rank
//   hsm_bench_ranks prefill TOKENS      a text through an 8-layer (a,b) language model: memory and tokens/s of each rank
//   hsm_bench_ranks extend TOKENS       the same on one rank, by LanguageModel::extend
//
// Prints one line of JSON for each figure, and first what it ran on.
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include <hsm/distributed/run_ranks.hpp>
#include <hsm/distributed/sharded_model.hpp>

#include "bench/support/machine.hpp"
#include "bench/support/whole_number.hpp"

#ifdef HSM_USE_BLAS
#include <cblas.h>
#endif

namespace {

using namespace hsm;
using Model = LanguageModel<float, LayerList<ScalarPair, AttentionLayer>>;
using Clock = std::chrono::steady_clock;

constexpr Index kWidth = 256, kHeads = 8, kLayers = 8;

double since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

/// The processor's time of this process so far: what it would have taken with a processor of its own.
double processor_seconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + 1e-6 * static_cast<double>(t.tv_usec);
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

double peak_bytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return 1024.0 * static_cast<double>(usage.ru_maxrss);
}

/// One line from each rank, in their order.
void print_of_each(Communicator& ranks, const std::string& line) {
  std::int64_t turn = 0;
  for (int r = 0; r < ranks.size(); ++r) {
    if (r == ranks.rank()) std::printf("%s\n", line.c_str()), std::fflush(stdout);
    ranks.sum(std::span(&turn, 1));
  }
}

Model make_model(const std::string& layers, Index feed_forward) {
  Random random(1);
  return Model(
      {.vocabulary = 256, .width = kWidth, .feed_forward = feed_forward, .context = 1024, .layers = layers},
      random);
}

/// What each rank sends forth and back through one mixer, `tokens` of them on each.
template <class Mixer>
void count_exchange(Communicator& ranks, const char* name, const Mixer& mixer, Index shift, Index tokens) {
  const Index N = tokens * kWidth;
  std::vector<float> x(static_cast<std::size_t>(N), 0.5f), y(x.size()), dx(x.size());
  const auto view = [&](std::vector<float>& of) { return Tokens<float>(of.data(), 1, tokens, kWidth); };
  const TokenShards shards(ranks, tokens);
  ShardedSaved<typename Mixer::Saved> saved;
  auto gradients = mixer.make_gradients();
  Workspace workspace;
  const Traffic start = ranks.traffic();
  sharded_forward(mixer, shards, view(x), view(y), saved, workspace);
  const Traffic between = ranks.traffic();
  sharded_backward(mixer, shards, view(x), saved, view(y), view(dx), gradients, workspace);
  const Traffic end = ranks.traffic();
  char line[400];
  std::snprintf(
      line, sizeof line,
      R"({"kind": "exchange", "layer": "%s", "shift": %lld, "ranks": %d, "rank": %d, "tokens": %lld, )"
      R"("forward_bytes": %lld, "forward_messages": %lld, "backward_bytes": %lld, "backward_messages": %lld})",
      name, static_cast<long long>(shift), ranks.size(), ranks.rank(), static_cast<long long>(tokens),
      static_cast<long long>(between.bytes - start.bytes),
      static_cast<long long>(between.messages - start.messages),
      static_cast<long long>(end.bytes - between.bytes),
      static_cast<long long>(end.messages - between.messages));
  print_of_each(ranks, line);
}

void exchange(Communicator& ranks) {
  Random random(1);
  const CausalAttention<float> attention(Attention<float>(kWidth, kHeads, random));
  for (const Index tokens : {Index{256}, Index{512}}) {
    for (Index l = 0; l < kLayers; ++l) {
      const Index shift = Index{1} << l;
      count_exchange(ranks, "ab", Mixer<ScalarPair<float>>(ScalarPair<float>(kWidth), shift), shift, tokens);
    }
    count_exchange(ranks, "attention", attention, 0, tokens);
  }
}

/// The least of some runs, of processor time, which other programs hardly change.
template <class F>
double least_seconds(F&& f) {
  f();
  double least = 1e30;
  for (int i = 0; i < 3; ++i) {
    const double start = processor_seconds();
    f();
    least = (std::min)(least, processor_seconds() - start);
  }
  return least;
}

/// A training step of the model over T tokens, its logits left out.
double block_seconds(const std::string& layers, Index T) {
  const Model model = make_model(layers, 4 * kWidth);
  Model gradients = model;
  std::vector<std::int32_t> ids(static_cast<std::size_t>(T), 7);
  OwnedColumns<float> d(kWidth, T);
  d.setConstant(0.01f);
  Model::Saved saved;
  Workspace workspace;
  return least_seconds([&] {
    model.hidden(ids, 1, T, saved, workspace);
    model.backward(ids, saved, ConstColumns<float>(d.data(), kWidth, T, Eigen::OuterStride<>(kWidth)),
                   gradients, workspace);
  });
}

void compute(Communicator& ranks) {
  if (ranks.size() > 1)
    throw std::runtime_error("compute runs on 1 rank, got " + std::to_string(ranks.size()));
  constexpr Index kShort = 1024, kLong = 4096;
  const double token = block_seconds("8*ab", kLong) / (8.0 * kLong);
  // Attention: a T + b T^2 / 2, from two lengths.
  const double few = block_seconds("2*attention:heads=8", kShort) / 2,
               many = block_seconds("2*attention:heads=8", kLong) / 2;
  const double pair = (many / kLong - few / kShort) / (0.5 * (kLong - kShort));
  const double rest = few / kShort - 0.5 * kShort * pair;
  std::printf(
      R"({"kind": "compute", "width": %td, "ab_token": %.4g, "attention_token": %.4g, "attention_pair": %.4g})"
      "\n",
      static_cast<std::ptrdiff_t>(kWidth), token, rest, pair);
}

void print_prefill(Communicator& ranks, const char* how, Index tokens, Index feed_forward, double seconds,
                   double before) {
  char line[400];
  std::snprintf(
      line, sizeof line,
      R"({"kind": "%s", "ranks": %d, "rank": %d, "tokens": %lld, "feed_forward": %lld, "seconds": %.4g, )"
      R"("processor_seconds": %.4g, "tokens_per_second": %.4g, "peak_bytes": %.4g, "sent_bytes": %lld})",
      how, ranks.size(), ranks.rank(), static_cast<long long>(tokens), static_cast<long long>(feed_forward),
      seconds, processor_seconds() - before, static_cast<double>(tokens) / seconds, peak_bytes(),
      static_cast<long long>(ranks.traffic().bytes));
  print_of_each(ranks, line);
}

/// `sharded`: by sharded_prefill over all ranks.
void prefill(Communicator& ranks, Index tokens, Index feed_forward, bool sharded) {
  const Model model = make_model("8*ab", feed_forward);
  const Index n = ranks.size(), own = tokens / n + (ranks.rank() < tokens % n ? 1 : 0);
  Random random(static_cast<std::uint64_t>(ranks.rank()) + 1);
  std::vector<std::int32_t> ids(static_cast<std::size_t>(own));
  for (std::int32_t& id : ids) id = static_cast<std::int32_t>(random.below(256));
  auto state = model.make_state();
  std::vector<float> logits(256);
  Workspace workspace;
  const auto start = Clock::now();
  const double before = processor_seconds();
  if (sharded) {
    sharded_prefill(model, TokenShards(ranks, own), ids, state, std::span<float>(logits), workspace);
  } else {
    model.extend(ids, state, Columns<float>(logits.data(), 256, 1, Eigen::OuterStride<>(256)), workspace);
  }
  print_prefill(ranks, sharded ? "prefill" : "extend", tokens, feed_forward, since(start), before);
}

int run(Communicator& ranks, const std::vector<std::string>& words) {
  const std::string what = words.empty() ? "" : words[0];
  const auto number = [&](std::size_t i, Index otherwise) {
    return i < words.size()
               ? static_cast<Index>(bench::whole_number(i == 1 ? "TOKENS" : "FEED-FORWARD", words[i]))
               : otherwise;
  };
  if (ranks.rank() == 0) {
    std::string line;
    for (const auto& [name, value] : bench::machine())
      line += (line.empty() ? R"({"kind": "machine", ")" : R"(, ")") + name + R"(": ")" + value + '"';
    std::printf("%s}\n", line.c_str());
    std::fflush(stdout);
  }
  if (what == "exchange") {
    exchange(ranks);
  } else if (what == "compute") {
    compute(ranks);
  } else if ((what == "prefill" || (what == "extend" && ranks.size() == 1)) && number(1, 0) > 0) {
    prefill(ranks, number(1, 0), number(2, 4 * kWidth), what == "prefill");
  } else {
    throw std::runtime_error(
        "hsm_bench_ranks: expected exchange, compute, prefill TOKENS [FEED-FORWARD], or on one rank extend "
        "TOKENS [FEED-FORWARD], got '" +
        what + "' on " + detail::counted(ranks.size(), "rank"));
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
#ifdef HSM_USE_BLAS
  openblas_set_num_threads(1);
#endif
  return hsm::run_ranks(argc, argv, [&](hsm::Communicator& ranks) {
    return run(ranks, std::vector<std::string>(argv + 1, argv + argc));
  });
}
