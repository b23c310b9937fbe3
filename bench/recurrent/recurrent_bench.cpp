// SPDX-License-Identifier: MIT
//
// The moving average: with one memory a channel, whose sizes are those of the other mixers without products, against
// copy, and with four over T beside attention. Linear attention, over T beside sgemm and beside attention.
#include <algorithm>
#include <cmath>

#include <hsm/recurrent/causal_linear_attention.hpp>
#include <hsm/recurrent/moving_average.hpp>

#include "bench/support/layer_cases.hpp"

namespace hsm::bench {
namespace {

/// The layer of n memories a channel, and its oracle: the recurrence in double.
template <Index n>
struct MovingAverageCase {
  using Layer = MovingAverage<float>;
  static std::string name() { return "ema:ndim=" + std::to_string(n); }
  static Layer make(Index C, Index /*s*/) {
    Random random(7);
    return Layer(Ema<float>(C, n, random));
  }
  static std::vector<std::pair<Index, Index>> products(Index) { return {}; }
  static double own_flop(Index /*T*/, Index /*C*/) { return 0; }

  static Eigen::MatrixXd expected(Index C, Index s, Index T, const Column& x,
                                  const std::vector<Index>& tokens) {
    const Ema<float> p = make(C, s).parameters();
    const auto sigmoid_of = [](const auto& tensor) -> Eigen::ArrayXXd {
      return 1 / (1 + (-tensor.template cast<double>().array()).exp());
    };
    const Eigen::ArrayXXd share = sigmoid_of(p.alpha), q = 1 - share * sigmoid_of(p.delta);
    const Eigen::ArrayXXd in = share * p.beta.cast<double>().array();
    Eigen::ArrayXXd h = Eigen::ArrayXXd::Zero(n, C);
    Eigen::MatrixXd y(C, static_cast<Index>(tokens.size()));
    for (Index t = 0; t < T; ++t) {
      h = q * h + in.rowwise() * x(t).transpose().array();
      for (std::size_t i = 0; i < tokens.size(); ++i) {
        if (tokens[i] == t)
          y.col(static_cast<Index>(i)) = (p.eta.cast<double>().array() * h).colwise().sum().matrix();
      }
    }
    return y;
  }
};

/// Linear attention, and its oracle: the recurrence in double, of a key and a value at a time.
struct LinearAttentionCase {
  using Layer = CausalLinearAttention<float>;
  static std::string name() { return "linear-attention"; }
  template <class Scalar>
  static LinearAttention<Scalar> parameters(Index C) {
    Random random(7);
    return LinearAttention<Scalar>(C, kHeads, random);
  }
  static Layer make(Index C, Index /*s*/) { return Layer(parameters<float>(C)); }
  static std::vector<std::pair<Index, Index>> products(Index C) { return {{3 * C, C}, {C, C}}; }
  /// What the recurrence takes: S and z move on and are multiplied by the query. A chunk computes less of that and, as
  /// a quadratic form, about as much besides, which is not counted.
  static double own_flop(Index T, Index C) {
    return 4 * static_cast<double>(T) * static_cast<double>(C * (C / kHeads + 1));
  }

  static Eigen::MatrixXd expected(Index C, Index /*s*/, Index T, const Column& x,
                                  const std::vector<Index>& tokens) {
    const LinearAttention<double> p = parameters<double>(C);
    const Index D = C / kHeads;
    const Eigen::MatrixXd w = p.project.weight;
    const auto phi = [](double u) { return u > 0 ? u + 1 : std::exp(u); };
    std::vector<Eigen::MatrixXd> memories(static_cast<std::size_t>(kHeads), Eigen::MatrixXd::Zero(D, D + 1));
    Eigen::MatrixXd y(C, static_cast<Index>(tokens.size()));
    for (Index t = 0; t < T; ++t) {
      const Eigen::VectorXd joint = w * x(t) + p.project.bias;
      Eigen::VectorXd mixed(C), value(D + 1);
      for (Index h = 0; h < kHeads; ++h) {
        Eigen::MatrixXd& memory = memories[static_cast<std::size_t>(h)];
        value << joint.segment(2 * C + h * D, D), 1;
        memory.noalias() += joint.segment(C + h * D, D).unaryExpr(phi) * value.transpose();
        if (std::find(tokens.begin(), tokens.end(), t) == tokens.end()) continue;
        const Eigen::VectorXd sums = memory.transpose() * joint.segment(h * D, D).unaryExpr(phi);
        mixed.segment(h * D, D) = sums.head(D) / sums(D);
      }
      for (std::size_t i = 0; i < tokens.size(); ++i) {
        if (tokens[i] == t) y.col(static_cast<Index>(i)) = p.output.weight * mixed + p.output.bias;
      }
    }
    return y;
  }
};

}  // namespace

void add_recurrent(const Selection& selection) {
  using One = MovingAverageCase<1>;
  for (const int threads : selection.thread_counts()) {
    for (const Index megabytes : {2, 8, 128}) {
      if (selection.quick && megabytes > 2) continue;
      const Index T = megabytes * (1 << 20) / (kChannels * static_cast<Index>(sizeof(float)));
      const std::string size = "MB=" + std::to_string(megabytes);
      const bool judged = megabytes == 8 && threads == 1;
      add_layer_case<One>(T, Mode::kForward, threads, {judged ? 0.5 : 0.0}, size);
      add_layer_case<One>(T, Mode::kBackward, threads, {}, size);
    }
  }
  add_layer_cases<MovingAverageCase<4>>(selection, 65536, 0, 0);
  add_layer_cases<LinearAttentionCase>(selection, 65536, 0.6, 0.5);
}

}  // namespace hsm::bench
