// SPDX-License-Identifier: MIT
//
// The moving average: with one memory a channel, whose sizes are those of the other mixers without products, against
// copy, and with four over T beside attention.
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
    return Layer(EmaLayer<float>(Ema<float>(C, n, random)));
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
}

}  // namespace hsm::bench
