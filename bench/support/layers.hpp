// SPDX-License-Identifier: MIT
//
// The layers that are timed, all at C channels and made from one seed, each with its oracle in double: what
// it makes of a sequence at some tokens, from the definition. A mixer's token t depends on tokens t, t - s,
// ... alone, so its oracle is the naive mixer over just these, one place apart; that of attention is
// softmax(q K^T) V.
#pragma once

#include <algorithm>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include <hsm/attention/causal_attention.hpp>
#include <hsm/hierarchical_attention/hierarchical_kernel_attention.hpp>
#include <hsm/shift/mixer.hpp>
#include <hsm/shift/policies.hpp>

#include "tests/reference/mixer_reference.hpp"

namespace hsm::bench {

inline constexpr Index kChannels = 512;
inline constexpr Index kHeads = 8;
inline constexpr Index kShift = 64;

/// Token t of a sequence, in double.
using Column = std::function<Eigen::VectorXd(Index t)>;

/// A policy with H heads where it multiplies by heads, 2 taps, random weights from a fixed seed.
template <template <class> class Policy, class Scalar>
Policy<Scalar> make_policy(Index C) {
  Random random(7);
  if constexpr (std::is_constructible_v<Policy<Scalar>, Index, Random&, Index, Index>) {
    return Policy<Scalar>(C, random, kHeads, 2);
  } else if constexpr (std::is_constructible_v<Policy<Scalar>, Index, Random&>) {
    return Policy<Scalar>(C, random);
  } else {
    Policy<Scalar> policy(C);
    if constexpr (requires { policy.a, policy.b; }) {
      policy.a.setConstant(Scalar(0.75));
      policy.b.setConstant(Scalar(0.5));
    }
    return policy;
  }
}

/// f.operator()<Policy>() for each policy of the library.
template <class F>
void for_each_policy(F&& f) {
  [&]<template <class> class... Policies>(LayerList<Policies...>) {
    (f.template operator()<Policies>(), ...);
  }(StandardPolicies{});
}

/// A mixer at one shift.
template <template <class> class Policy>
struct MixerLayer {
  using Layer = Mixer<Policy<float>>;
  static std::string name() { return std::string(Policy<float>::kName); }
  static Layer make(Index C, Index s) { return Layer(make_policy<Policy, float>(C), s); }

  /// The products of a forward pass as (rows, columns) of their weights.
  static std::vector<std::pair<Index, Index>> products(Index C) {
    constexpr Stages kStages = Policy<float>::kStages;
    std::vector<std::pair<Index, Index>> all;
    if (kStages.projected() > 0) all.emplace_back(kStages.projected() * C, C);
    if (kStages.output) all.emplace_back(C, C);
    return all;
  }
  /// Flop of a forward pass over T tokens besides the products.
  static double own_flop(Index /*T*/, Index /*C*/) { return 0; }

  static Eigen::MatrixXd expected(Index C, Index s, Index /*T*/, const Column& x,
                                  const std::vector<Index>& tokens) {
    const Mixer<Policy<double>> mixer(make_policy<Policy, double>(C), 1);
    const test::Shifts ones(static_cast<std::size_t>(mixer.heads()), 1);
    Eigen::MatrixXd y(C, static_cast<Index>(tokens.size()));
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      test::Values document;
      for (Index k = mixer.taps() - 1; k >= 0; --k) {
        if (tokens[i] - k * s < 0) continue;
        const Eigen::VectorXd column = x(tokens[i] - k * s);
        document.insert(document.end(), column.data(), column.data() + C);
      }
      const test::Values mixed = test::mix(mixer.parameters(), ones, document);
      y.col(static_cast<Index>(i)) = Eigen::Map<const Eigen::VectorXd>(mixed.data() + mixed.size() - C, C);
    }
    return y;
  }
};

/// Causal attention, dense, of a window, or over kTop chosen blocks.
template <Index kWindow, Index kBlock = 0, Index kTop = 0>
struct AttentionOf {
  using Layer = CausalAttention<float>;
  /// The most tokens of which all blocks are chosen. With more, y jumps where another block is, and differences of y
  /// are no slope.
  static constexpr Index kContinuous = kBlock > 0 ? (kTop + 1) * kBlock : std::numeric_limits<Index>::max();
  static std::string name() {
    if (kBlock > 0) return "attention-block-" + std::to_string(kBlock) + "-top-" + std::to_string(kTop);
    return kWindow > 0 ? "attention-window-" + std::to_string(kWindow) : "attention";
  }
  template <class Scalar>
  static Attention<Scalar> parameters(Index C) {
    Random random(7);
    return Attention<Scalar>(C, kHeads, random, {.window = kWindow, .block = kBlock, .top = kTop});
  }
  static Layer make(Index C, Index /*s*/) { return Layer(parameters<float>(C)); }
  static std::vector<std::pair<Index, Index>> products(Index C) { return {{3 * C, C}, {C, C}}; }
  /// The causal half of both products of the core, what lies outside of the window, or of the chosen blocks, left out,
  /// and the products with mean keys.
  static double own_flop(Index T, Index C) {
    const auto time = static_cast<double>(T), channels = static_cast<double>(C);
    const Index most = kBlock > 0 ? kTop * kBlock + (kBlock + 1) / 2 : kWindow;
    const auto seen = static_cast<double>(most > 0 ? std::min(most, T) : T);
    const double choosing =
        kBlock > 0 && T > (kTop + 1) * kBlock ? time * time / static_cast<double>(kBlock) : 0;
    return (2 * seen * (2 * time - seen) + choosing) * channels;
  }

  static Eigen::MatrixXd expected(Index C, Index /*s*/, Index T, const Column& x,
                                  const std::vector<Index>& tokens) {
    const Attention<double> p = parameters<double>(C);
    const Index D = C / kHeads;
    Eigen::MatrixXd in(C, T);
    for (Index t = 0; t < T; ++t) in.col(t) = x(t);
    const Eigen::MatrixXd w = p.project.weight;
    const auto project = [&](Index first, Index n) -> Eigen::MatrixXd {
      return (w * in.middleCols(first, n)).colwise() + p.project.bias;
    };
    Eigen::MatrixXd seen = project(0, kWindow > 0 ? 0 : T);
    Eigen::MatrixXd y(C, static_cast<Index>(tokens.size()));
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      const Index end = tokens[i] + 1, first = kWindow > 0 ? std::max<Index>(0, end - kWindow) : 0;
      if (kWindow > 0) seen = project(first, end - first);
      Eigen::VectorXd mixed(C);
      for (Index h = 0; h < kHeads; ++h) {
        const auto rows = [&](Index plane) { return seen.block(plane * C + h * D, 0, D, end - first); };
        Eigen::VectorXd weight =
            rows(1).transpose() * rows(0).rightCols(1) / std::sqrt(static_cast<double>(D));
        if constexpr (kBlock > 0)
          hide_unchosen(Eigen::MatrixXd(rows(1)), Eigen::VectorXd(rows(0).rightCols(1)), weight);
        weight = (weight.array() - weight.maxCoeff()).exp();
        mixed.segment(h * D, D) = rows(2) * weight / weight.sum();
      }
      y.col(static_cast<Index>(i)) = p.output.weight * mixed + p.output.bias;
    }
    return y;
  }

 private:
  /// Scores below all others for the keys that the last token does not see.
  static void hide_unchosen(const Eigen::MatrixXd& keys, const Eigen::VectorXd& query,
                            Eigen::VectorXd& scores) {
    const Index earlier = (keys.cols() - 1) / kBlock;
    std::vector<std::pair<double, Index>> products;
    for (Index b = 0; b < earlier; ++b)
      products.emplace_back(-query.dot(keys.middleCols(b * kBlock, kBlock).rowwise().sum()), b);
    std::sort(products.begin(), products.end());
    for (std::size_t k = static_cast<std::size_t>(kTop); k < products.size(); ++k)
      scores.segment(products[k].second * kBlock, kBlock).setConstant(-1e300);
  }
};

/// Dense causal attention.
using DenseAttention = AttentionOf<0>;
/// The last 256 tokens.
using WindowLayer = AttentionOf<256>;
/// 8 chosen blocks of 128 tokens, and the own one.
using BlockLayer = AttentionOf<0, 128, 8>;

/// Attention over a hierarchy of three levels.
struct HierarchyLayer {
  using Layer = HierarchicalKernelAttention<float>;
  static constexpr Index kLevels = 3;
  static std::string name() { return "hkt"; }
  template <class Scalar>
  static HierarchicalAttention<Scalar> parameters(Index C) {
    Random random(7);
    return HierarchicalAttention<Scalar>(C, kHeads, random, kLevels);
  }
  static Layer make(Index C, Index /*s*/) { return Layer(parameters<float>(C)); }
  /// For each token: level l has a block for 2^l of them.
  static std::vector<std::pair<Index, Index>> products(Index C) {
    return {{3 * C, C}, {C + C / 2, C}, {C, C}};
  }
  /// Those of a level are C (2 C), whatever blocks it has.
  static Index product_weights(Index C) { return (4 + 2 * (kLevels - 1)) * C * C; }
  /// The causal half of both products of the core, and of the products of pairs of blocks.
  static double own_flop(Index T, Index C) {
    return (2 + 1.0 / 4 + 1.0 / 16) * static_cast<double>(T) * static_cast<double>(T) *
           static_cast<double>(C);
  }

  static Eigen::MatrixXd expected(Index C, Index /*s*/, Index T, const Column& x,
                                  const std::vector<Index>& tokens) {
    const HierarchicalAttention<double> p = parameters<double>(C);
    const Index D = C / kHeads;
    std::vector<Eigen::MatrixXd> joint;  // of each level, by block
    Eigen::MatrixXd blocks(C, T);
    for (Index t = 0; t < T; ++t) blocks.col(t) = x(t);
    const auto project = [&](const Linear<double>& linear) {
      joint.emplace_back((Eigen::MatrixXd(linear.weight) * blocks).colwise() + linear.bias);
    };
    project(p.project);
    for (const AttentionLevel<double>& level : p.levels) {
      Eigen::MatrixXd half(C, blocks.cols() / 2);
      for (Index j = 0; j < half.cols(); ++j)
        half.col(j) = level.a.cwiseProduct(blocks.col(2 * j)) + level.b.cwiseProduct(blocks.col(2 * j + 1));
      blocks = half;
      project(level.project);
    }
    const Eigen::VectorXd shares = p.lambda.array().exp() / p.lambda.array().exp().sum();
    Eigen::MatrixXd y(C, static_cast<Index>(tokens.size()));
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      const Index end = tokens[i] + 1;
      Eigen::VectorXd mixed(C);
      for (Index h = 0; h < kHeads; ++h) {
        Eigen::VectorXd score = Eigen::VectorXd::Zero(end);
        for (Index l = 0; l < kLevels; ++l) {
          const Eigen::MatrixXd& own = joint[static_cast<std::size_t>(l)];
          const Index complete = end >> l, size = Index{1} << l;
          for (Index K = 0; K < complete; ++K) {
            const double product =
                own.col(complete - 1).segment(h * D, D).dot(own.col(K).segment(C + h * D, D));
            score.segment(K * size, size).array() += shares[l] * product / std::sqrt(static_cast<double>(D));
          }
        }
        score = (score.array() - score.maxCoeff()).exp();
        mixed.segment(h * D, D) = joint[0].block(2 * C + h * D, 0, D, end) * score / score.sum();
      }
      y.col(static_cast<Index>(i)) = p.output.weight * mixed + p.output.bias;
    }
    return y;
  }
};

/// Parameters of the products of a layer with C channels, for each token.
template <class L>
Index product_parameters(Index C) {
  Index sum = 0;
  for (const auto& [rows, columns] : L::products(C)) sum += rows * columns;
  return sum;
}
/// The same, those that few tokens are multiplied by counted whole.
template <class L>
Index product_weights(Index C) {
  if constexpr (requires { L::product_weights(C); }) {
    return L::product_weights(C);
  } else {
    return product_parameters<L>(C);
  }
}

}  // namespace hsm::bench
