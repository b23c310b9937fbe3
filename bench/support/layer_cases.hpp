// SPDX-License-Identifier: MIT
//
// The cases of one layer, the same for every mixer and for attention: forward (in place too), backward, both
// and step, at C = 512 and s = 64. A layer without products stands beside a copy of the same size, one with
// products beside sgemm; or, as asked for, beside its own products and nothing else, or beside attention.
#pragma once

#include "bench/suites.hpp"
#include "bench/support/check.hpp"
#include "bench/support/layers.hpp"
#include "bench/support/registry.hpp"
#include "bench/support/threads.hpp"

namespace hsm::bench {

enum class Mode { kForward, kInPlace, kBackward, kBoth };

inline std::string name_of(Mode mode) {
  switch (mode) {
    case Mode::kForward:
      return "forward";
    case Mode::kInPlace:
      return "in-place";
    case Mode::kBackward:
      return "backward";
    case Mode::kBoth:
      break;
  }
  return "forward+backward";
}

/// What a layer runs in turns with.
enum class Beside {
  kMachine,   ///< copy or sgemm
  kProducts,  ///< its own products: .../bare
  kAttention  ///< attention in the same mode: .../paired
};

/// A layer with its buffers.
template <class L>
struct LayerSubject {
  LayerSubject(Index T, int threads)
      : layer(L::make(kChannels, kShift)),
        workspace(executor(threads)),
        x(Eigen::MatrixXf::Random(kChannels, T)),
        y(kChannels, T) {}

  void prepare_backward() {
    dy = Eigen::MatrixXf::Random(kChannels, x.cols());
    dx.resize(kChannels, x.cols());
  }
  void forward() { layer.forward(x, y, workspace); }
  void forward_saved() { layer.forward(x, y, saved, workspace); }
  void backward() { layer.backward(x, saved, dy, dx, gradients, workspace); }

  std::string check() const {
    const std::vector<Index> tokens = sampled_tokens(x.cols());
    const Column column = [this](Index t) -> Eigen::VectorXd { return x.col(t).cast<double>(); };
    return check_columns(y, tokens, L::expected(kChannels, kShift, x.cols(), column, tokens));
  }
  /// After one backward onto gradients of 0. Where y is not continuous, of so many tokens that it is.
  std::string check_backward() {
    if constexpr (requires { L::kContinuous; }) {
      if (x.cols() > L::kContinuous) {
        if (!dx.allFinite()) return "dx is not finite";
        LayerSubject shorter(L::kContinuous, 1);
        shorter.prepare_backward();
        shorter.forward_saved();
        shorter.backward();
        return shorter.check_backward();
      }
    }
    const std::string wrong = check_gradient(
        [this](const Eigen::MatrixXf& in, Eigen::MatrixXf& out) { layer.forward(in, out, workspace); }, x, dy,
        dx);
    if (!wrong.empty()) return wrong;
    return check_parameter_gradients([this](Eigen::MatrixXf& out) { layer.forward(x, out, workspace); },
                                     layer.parameters(), gradients, dy);
  }

  typename L::Layer layer;
  Workspace workspace;
  Eigen::MatrixXf x, y, dy, dx;
  typename L::Layer::Saved saved = layer.make_saved();
  std::remove_cvref_t<decltype(std::declval<typename L::Layer&>().parameters())> gradients =
      layer.make_gradients();
};

/// Of a case whose yardstick is attention: the figure is how often attention's speed it has.
inline void set_paired(Case& c) {
  c.yardstick_name = "attention";
  c.budget = 1.5;
  c.attempts = 3;
}

/// How often a pass of the mode goes through the products.
inline double product_passes(Mode mode) { return mode == Mode::kBoth ? 3 : mode == Mode::kBackward ? 2 : 1; }

/// A run of the mode, forever again.
template <class L>
std::function<void()> work_of(const std::shared_ptr<LayerSubject<L>>& subject, Mode mode) {
  switch (mode) {
    case Mode::kForward:
      break;
    case Mode::kInPlace:  // again and again over y
      if constexpr (requires { subject->layer.parameters().a; }) {
        return [subject] { subject->layer.forward_in_place(subject->y, subject->workspace); };
      }
      break;
    case Mode::kBackward:
      return [subject] { subject->backward(); };
    case Mode::kBoth:
      return [subject] {
        subject->forward_saved();
        subject->backward();
      };
  }
  return [subject] { subject->forward(); };
}

template <class L>
void set_yardstick(Case& c, Index T, Mode mode, int threads, Beside beside) {
  const auto tokens = static_cast<double>(T);
  c.tokens = tokens;
  if (beside == Beside::kAttention) {
    auto attention = std::make_shared<LayerSubject<DenseAttention>>(T, threads);
    if (mode != Mode::kForward) attention->prepare_backward();
    c.yardstick = work_of(attention, mode);
    set_paired(c);
    return;
  }
  if (product_parameters<L>(kChannels) == 0) {
    const double bytes = tokens * kChannels * sizeof(float);
    const double moved = mode == Mode::kBoth ? 5 : mode == Mode::kBackward ? 3 : 2;
    const auto copy = copy_of(static_cast<std::size_t>(bytes), threads);
    c.bytes = moved * bytes;
    c.scale = moved / 2;
    c.yardstick = [copy] { (*copy)(); };
    c.yardstick_name = "copy";
    return;
  }
  // Attention's core: two products forward; five backward, the scores once more included.
  const double core = L::own_flop(T, kChannels);
  const double core_passes = mode == Mode::kForward ? 1 : mode == Mode::kBackward ? 2.5 : 3.5;
  c.flop = product_passes(mode) * 2 * static_cast<double>(product_parameters<L>(kChannels)) * tokens +
           core_passes * core;
  if (beside == Beside::kProducts) {
    auto products = std::make_shared<Products>(team(threads), sgemm(threads).blas(), L::products(kChannels),
                                               T, mode != Mode::kForward);
    c.yardstick = [products] { (*products)(); };
    c.yardstick_name = "its bare sgemms";
  } else {
    c.scale = c.flop / Sgemm::kFlop;
    c.yardstick = [threads] { sgemm(threads)(); };
    c.yardstick_name = "sgemm";
  }
}

/// Adds a case under the name mixer/L/mode/size/threads, with /bare or /paired behind it.
template <class L>
void add_layer_case(Index T, Mode mode, int threads, Target target, const std::string& size,
                    Beside beside = Beside::kMachine) {
  const std::string name = "mixer/" + L::name() + "/" + name_of(mode) + "/" + size +
                           "/threads=" + std::to_string(threads) +
                           (beside == Beside::kProducts    ? "/bare"
                            : beside == Beside::kAttention ? "/paired"
                                                           : "");
  add_case(name, target, [=] {
    auto subject = std::make_shared<LayerSubject<L>>(T, threads);
    auto c = std::make_unique<Case>();
    const bool differentiates = mode == Mode::kBackward || mode == Mode::kBoth;
    if (differentiates) subject->prepare_backward();
    c->work = work_of(subject, mode);
    c->verify = [=, work = c->work] {
      if (mode == Mode::kBackward) subject->forward_saved();
      if (mode == Mode::kInPlace) subject->y = subject->x;
      set_zero(subject->gradients);
      work();
      const std::string wrong = subject->check();
      if constexpr (requires { subject->layer.parameters().b; }) {
        if (mode == Mode::kInPlace) {  // so that thousands of runs leave y as large as it is
          subject->layer.parameters().a.setConstant(1);
          subject->layer.parameters().b.setConstant(0x1p-20F);
        }
      }
      return wrong.empty() && differentiates ? subject->check_backward() : wrong;
    };
    set_yardstick<L>(*c, T, mode, threads, beside);
    return c;
  });
}

/// One token after `before` others. What keeps all tokens takes it back each time, so that it stays at that length.
template <class L>
void add_step_case(Index before) {
  add_case("mixer/" + L::name() + "/step/at=" + std::to_string(before), {}, [=] {
    auto subject = std::make_shared<LayerSubject<L>>(before + 64, 1);
    using State = typename L::Layer::State;
    constexpr bool kGrows = requires(State & held) { held.capacity(); };
    auto state = std::make_shared<State>(subject->layer.make_state({.spare = kGrows ? 64 : 0}));
    auto c = std::make_unique<Case>();
    c->verify = [=] {
      Eigen::MatrixXf& y = subject->y;
      subject->layer.extend(subject->x.leftCols(before), *state, y.leftCols(before), subject->workspace);
      for (Index t = before; t < before + 64; ++t)
        subject->layer.step(subject->x.col(t), *state, y.col(t), subject->workspace);
      if constexpr (kGrows) state->rewind(0, 64);
      return subject->check();
    };
    c->work = [=] {
      subject->layer.step(subject->x.col(0), *state, subject->y.col(0), subject->workspace);
      if constexpr (kGrows) state->rewind(0, 1);
    };
    c->tokens = 1;
    c->attempts = 3;
    return c;
  });
}

/// The most tokens that attention is timed at.
inline constexpr Index kLongestAttention = 16384;
/// The most tokens before a step of a layer whose step costs more the longer the text is.
inline constexpr Index kLongestGrowth = 10000;

/// A product-bound figure's target: with Eigen alone 0.8 of what holds with hsm::blas.
constexpr Target product_target(double least) {
#if defined(HSM_USE_BLAS)
  return {least};
#else
  return {0.8 * least};
#endif
}

/// All T of one layer: forward up to `longest`, forward+backward up to a quarter of it, both in turns with attention
/// up to its own longest T; and step early and late.
template <class L>
void add_layer_cases(const Selection& selection, Index longest, double least_forward, double least_both) {
  const Index most = selection.quick ? 256 : longest;
  for (Index T = 128; T <= most; T *= 2) {
    const std::string size = "T=" + std::to_string(T);
    const bool judged = T >= 1024;
    add_layer_case<L>(T, Mode::kForward, selection.threads, product_target(judged ? least_forward : 0), size);
    if (T <= most / 4) {
      add_layer_case<L>(T, Mode::kBoth, selection.threads,
                        product_target(judged && T >= 2048 ? least_both : 0), size);
    }
    if (std::is_same_v<L, DenseAttention> || T > kLongestAttention) continue;
    add_layer_case<L>(T, Mode::kForward, selection.threads, {}, size, Beside::kAttention);
    if (T <= std::min(most, kLongestAttention) / 4)
      add_layer_case<L>(T, Mode::kBoth, selection.threads, {}, size, Beside::kAttention);
  }
  add_step_case<L>(100);
  const LayerFootprint footprint = L::make(kChannels, kShift).layer().footprint();
  add_step_case<L>(selection.quick ? 1000 : footprint.unbounded ? kLongestGrowth : 100000);
}

}  // namespace hsm::bench
