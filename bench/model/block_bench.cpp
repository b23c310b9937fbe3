// SPDX-License-Identifier: MIT
//
// Whole pre-norm blocks, mixer and feed-forward network together, all with the same number of parameters:
// what a mixer saves against attention goes to the width of its network. Forward only, as in reading a
// prompt. A mixer's block runs in turns with that of attention, which stands beside sgemm.
#include <hsm/model/feed_forward.hpp>
#include <hsm/model/layer_norm.hpp>

#include "bench/support/layer_cases.hpp"

namespace hsm::bench {
namespace {

constexpr Index kAttentionHidden = 4 * kChannels;
constexpr Index kChunk = 1024;  // tokens that the network works on at a time

/// Width of the network that gives the block of L as many parameters as the one of attention has.
template <class L>
Index hidden_width() {
  const Index freed = product_parameters<DenseAttention>(kChannels) - product_weights<L>(kChannels);
  return kAttentionHidden + freed / (2 * kChannels);
}

template <class Scalar>
FeedForward<Scalar> network(Index hidden) {
  Random random(11);
  return FeedForward<Scalar>(kChannels, hidden, random);
}

/// A block with its buffers: middle = x + mix(norm(x)), y = middle + network(norm(middle)).
template <class L>
struct BlockSubject {
  BlockSubject(Index T, int threads)
      : layer(L::make(kChannels, kShift)),
        norm(kChannels),
        feed_forward(network<float>(hidden_width<L>())),
        workspace(executor(threads)),
        x(Eigen::MatrixXf::Random(kChannels, T)),
        y(kChannels, T),
        input(kChannels, T) {}

  static Columns<float> columns(Eigen::MatrixXf& m, Index first, Index n) {
    return {m.data() + first * kChannels, kChannels, n, Eigen::OuterStride<>(kChannels)};
  }
  static ConstColumns<float> read(const Eigen::MatrixXf& m, Index first, Index n) {
    return {m.data() + first * kChannels, kChannels, n, Eigen::OuterStride<>(kChannels)};
  }

  void forward() {
    const Index T = x.cols();
    Executor& threads = workspace.executor();
    norm.forward(read(x, 0, T), columns(input, 0, T), threads);
    layer.forward(input, y, workspace);
    for (Index first = 0; first < T; first += kChunk) {
      const Index n = std::min(kChunk, T - first);
      Workspace::Frame frame(workspace);
      Columns<float> middle = columns(y, first, n), in = columns(input, first, n);
      Columns<float> branch = frame.columns<float>(kChannels, n);
      norm.add_forward(read(x, first, n), read(y, first, n), middle, in, threads);
      feed_forward.forward(read(input, first, n), branch, workspace);
      parallel_blocks(threads, n, 64,
                      [&](Index j, Index m, int) { middle.middleCols(j, m) += branch.middleCols(j, m); });
    }
  }

  std::string check() const {
    const auto normalised = [](const Eigen::VectorXd& v) -> Eigen::VectorXd {
      const Eigen::VectorXd centred = v.array() - v.mean();
      return centred / std::sqrt(centred.squaredNorm() / kChannels + LayerNorm<float>::kEpsilon);
    };
    const Column column = [&](Index t) { return normalised(x.col(t).cast<double>()); };
    const std::vector<Index> tokens = sampled_tokens(x.cols());
    Eigen::MatrixXd expected = L::expected(kChannels, kShift, x.cols(), column, tokens);
    const FeedForward<double> net = network<double>(hidden_width<L>());
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      auto out = expected.col(static_cast<Index>(i));
      out += x.col(tokens[i]).cast<double>();
      Eigen::VectorXd hidden = net.up.weight * normalised(out) + net.up.bias;
      hidden = hidden.unaryExpr([](double v) {
        return 0.5 * v * (1 + std::tanh(0.7978845608028654 * (v + 0.044715 * v * v * v)));
      });
      out += net.down.weight * hidden + net.down.bias;
    }
    return check_columns(y, tokens, expected);
  }

  typename L::Layer layer;
  LayerNorm<float> norm;
  FeedForward<float> feed_forward;
  Workspace workspace;
  Eigen::MatrixXf x, y, input;
};

template <class L>
void add_block(const Selection& selection) {
  constexpr bool kPaired = !std::is_same_v<L, DenseAttention>;
  for (Index T = 128; T <= (selection.quick ? 256 : kLongestAttention); T *= 2) {
    const int threads = selection.threads;
    add_case("block/" + L::name() + "/forward/T=" + std::to_string(T) +
                 "/threads=" + std::to_string(threads) + (kPaired ? "/paired" : ""),
             {}, [=] {
               auto subject = std::make_shared<BlockSubject<L>>(T, threads);
               auto c = std::make_unique<Case>();
               c->work = [subject] { subject->forward(); };
               c->verify = [subject] {
                 subject->forward();
                 return subject->check();
               };
               c->tokens = static_cast<double>(T);
               const Index parameters = product_parameters<L>(kChannels) + 2 * kChannels * hidden_width<L>();
               c->flop = 2 * static_cast<double>(parameters) * c->tokens + L::own_flop(T, kChannels);
               if constexpr (kPaired) {
                 auto attention = std::make_shared<BlockSubject<DenseAttention>>(T, threads);
                 c->yardstick = [attention] { attention->forward(); };
                 set_paired(*c);
               } else {
                 c->scale = c->flop / Sgemm::kFlop;
                 c->yardstick = [threads] { sgemm(threads)(); };
                 c->yardstick_name = "sgemm";
               }
               return c;
             });
  }
}

}  // namespace

void add_blocks(const Selection& selection) {
  for_each_policy([&]<template <class> class Policy>() { add_block<MixerLayer<Policy>>(selection); });
  add_block<DenseAttention>(selection);
  add_block<WindowLayer>(selection);
  add_block<BlockLayer>(selection);
  add_block<HierarchyLayer>(selection);
}

}  // namespace hsm::bench
