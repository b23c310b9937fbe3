// SPDX-License-Identifier: MIT
//
// A stack of 8 (a,b) layers, shifts 1 ... 128, over 128 MB: depth-first, and layer by layer between two
// buffers. Beside one copy of the tokens.
#include <hsm/shift/stack.hpp>

#include <bit>

#include "bench/support/layer_cases.hpp"

namespace hsm::bench {
namespace {

constexpr Index kLayers = 8;

struct StackSubject {
  explicit StackSubject(Index T, int threads)
      : workspace(executor(threads)), x(Eigen::MatrixXf::Random(kChannels, T)), y(kChannels, T) {
    for (Index l = 0; l < kLayers; ++l)
      layers.push_back(MixerLayer<ScalarPair>::make(kChannels, Index{1} << l));
  }

  void depth_first() {
    auto states = make_states(layers);
    extend(layers, x, states, y, workspace);
  }
  void layer_by_layer() {
    between.resize(x.rows(), x.cols());
    layers[0].forward(x, between, workspace);
    for (std::size_t l = 1; l < layers.size(); ++l)
      layers[l].forward(l % 2 == 1 ? between : y, l % 2 == 1 ? y : between, workspace);
  }

  /// One path leads to every offset o < 2^8: popcount(o) of its steps go back, the others stay.
  std::string check() const {
    const std::vector<Index> tokens = sampled_tokens(x.cols());
    Eigen::MatrixXd expected = Eigen::MatrixXd::Zero(kChannels, static_cast<Index>(tokens.size()));
    const auto& policy = layers[0].parameters();
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      for (Index o = 0; o < std::min(Index{1} << kLayers, tokens[i] + 1); ++o) {
        const int back = std::popcount(static_cast<unsigned>(o));
        const double weight = std::pow(static_cast<double>(policy.a[0]), kLayers - back) *
                              std::pow(static_cast<double>(policy.b[0]), back);
        expected.col(static_cast<Index>(i)) += weight * x.col(tokens[i] - o).cast<double>();
      }
    }
    return check_columns(y, tokens, expected);
  }

  std::vector<MixerLayer<ScalarPair>::Layer> layers;
  Workspace workspace;
  Eigen::MatrixXf x, y, between;
};

/// `passes` times the values go through memory.
void add_stack_case(const std::string& way, void (StackSubject::*run)(), int passes, Index megabytes,
                    int threads, Target target) {
  const std::string name =
      "stack/8*ab/" + way + "/MB=" + std::to_string(megabytes) + "/threads=" + std::to_string(threads);
  add_case(name, target, [=] {
    const Index T = megabytes * (1 << 20) / (kChannels * static_cast<Index>(sizeof(float)));
    auto subject = std::make_shared<StackSubject>(T, threads);
    auto c = std::make_unique<Case>();
    c->work = [=] { (*subject.*run)(); };
    c->verify = [=] {
      (*subject.*run)();
      return subject->check();
    };
    c->tokens = static_cast<double>(T);
    c->bytes = 2.0 * passes * static_cast<double>(megabytes * (1 << 20));
    const auto copy = copy_of(static_cast<std::size_t>(megabytes) << 20, threads);
    c->yardstick = [copy] { (*copy)(); };
    c->yardstick_name = "copy";
    c->budget = 1;
    return c;
  });
}

}  // namespace

void add_stacks(const Selection& selection) {
  const Index megabytes = selection.quick ? 4 : 128;
  for (const int threads : selection.thread_counts()) {
    add_stack_case("depth-first", &StackSubject::depth_first, 1, megabytes, threads,
                   {threads == 1 ? 1.0 / 3 : 0});
    add_stack_case("layer-by-layer", &StackSubject::layer_by_layer, kLayers, megabytes, threads, {});
  }
}

}  // namespace hsm::bench
