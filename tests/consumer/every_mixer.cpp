// SPDX-License-Identifier: MIT
//
// Every mixer, attention and the recurrent layers in a program of its own, for compilers and machines where the test suite does not
// run (.ci/platforms): forward against step, extend, packed and two threads, backward against the slope of
// forward along a random direction, exp against the standard library's, tokens that overlap against copies of them, and what
// schedules and random numbers promise of every platform.
#include <hsm/attention/causal_attention.hpp>
#include <hsm/core/threaded_executor.hpp>
#include <hsm/hierarchical_attention/hierarchical_kernel_attention.hpp>
#include <hsm/hsm.hpp>
#include <hsm/recurrent/causal_linear_attention.hpp>
#include <hsm/recurrent/moving_average.hpp>
#include <hsm/schedule/coverage.hpp>
#include <hsm/schedule/schedule_text.hpp>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <initializer_list>
#include <limits>
#include <type_traits>
#include <vector>

namespace {

using hsm::Index;

constexpr Index B = 2, T = 37, C = 24, H = 2, s = 3;

template <class Scalar>
using Values = std::vector<Scalar>;

template <class Scalar>
Values<Scalar> random_values(Index n, std::uint64_t seed) {
  hsm::Random random(seed);
  Values<Scalar> values(static_cast<std::size_t>(n));
  for (Scalar& value : values) value = static_cast<Scalar>(random.normal());
  return values;
}

template <class Scalar>
hsm::Tokens<Scalar> tokens(Values<Scalar>& values) {
  return {values.data(), B, T, C};
}

/// Prints and counts; NaN is a failure.
bool report(const char* name, const char* scalar, const char* what, double error, double bound) {
  const bool ok = error <= bound;
  std::printf("%-4s %-14s %-6s %-9s error %.1e, bound %.1e\n", ok ? "ok" : "BAD", name, scalar, what, error,
              bound);
  return ok;
}

template <class Scalar>
double worst(const Values<Scalar>& a, const Values<Scalar>& b) {
  double error = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double difference = std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i]));
    if (!(difference <= error)) error = difference;
    if (!(error == error)) break;  // NaN: worse than all that may follow
  }
  return error;
}

/// What the modes of a layer promise each other.
enum class Promise { kSameBits, kClose };

/// The other modes against forward.
template <class Layer>
bool modes_agree(const char* name, const Layer& layer, Promise promise) {
  using Scalar = typename Layer::Scalar;
  const bool wide = std::is_same_v<Scalar, double>;
  const char* scalar = wide ? "double" : "float";
  const double bound = promise == Promise::kSameBits ? 0 : wide ? 1e-12 : 2e-5;
  auto in = random_values<Scalar>(B * T * C, 1);
  Values<Scalar> whole(in.size()), other(in.size());
  const auto x = tokens(in), y = tokens(other);
  hsm::Workspace workspace;
  layer.forward(x, tokens(whole), workspace);

  // What a mode does not write is not left from the mode before it.
  const auto judge = [&](const char* mode, double most) {
    const bool ok = report(name, scalar, mode, worst(whole, other), most);
    std::fill(other.begin(), other.end(), Scalar(1e9));
    return ok;
  };
  std::fill(other.begin(), other.end(), Scalar(1e9));
  bool ok = true;
  auto state = layer.make_state({.streams = B});
  for (Index t = 0; t < T; ++t) layer.step(x.slice(t, 1), state, y.slice(t, 1), workspace);
  ok &= judge("step", bound);

  state = layer.make_state({.streams = B});
  Index first = 0;
  for (const Index n : {1, 2, 3, 5, 26}) {
    layer.extend(x.slice(first, n), state, y.slice(first, n), workspace);
    first += n;
  }
  ok &= judge("extend", bound);

  const std::vector<Index> offsets{0, T, T, 2 * T};  // two documents and an empty one between them
  layer.packed(hsm::Tokens<const Scalar>(in.data(), 1, B * T, C), offsets,
               hsm::Tokens<Scalar>(other.data(), 1, B * T, C), workspace);
  ok &= judge("packed", bound);

#if !defined(__EMSCRIPTEN__) || defined(__EMSCRIPTEN_PTHREADS__)
  hsm::ThreadedExecutor executor(2);
  hsm::Workspace shared(executor);
  layer.forward(x, y, shared);
  ok &= judge("threads", 0);
#endif
  return ok;
}

/// <dy, forward(x + h v) - forward(x - h v)> / 2h against <dx, v>, and that parameter gradients are finite and
/// not all zero.
template <class Layer>
bool backward_is_the_slope(const char* name, const Layer& layer) {
  const auto x = random_values<double>(B * T * C, 2), v = random_values<double>(B * T * C, 3);
  auto dy = random_values<double>(B * T * C, 4);
  auto shifted = x, y = x, dx = x;
  hsm::Workspace workspace;
  const double h = 1e-5;
  double slope = 0;
  for (const double sign : {1.0, -1.0}) {
    for (std::size_t i = 0; i < x.size(); ++i) shifted[i] = x[i] + sign * h * v[i];
    layer.forward(tokens(shifted), tokens(y), workspace);
    for (std::size_t i = 0; i < x.size(); ++i) slope += sign * dy[i] * y[i] / (2 * h);
  }
  auto saved = layer.make_saved();
  auto gradients = layer.make_gradients();
  shifted = x;
  layer.forward(tokens(shifted), tokens(y), saved, workspace);
  layer.backward(tokens(shifted), saved, tokens(dy), tokens(dx), gradients, workspace);
  double product = 0, size = 0;
  for (std::size_t i = 0; i < x.size(); ++i) product += dx[i] * v[i], size += std::abs(dx[i] * v[i]);
  bool ok = report(name, "double", "backward", std::abs(slope - product), 1e-9 * size);
  std::decay_t<decltype(gradients)>::visit(
      [&](auto, const auto& gradient) { ok &= gradient.allFinite() && gradient.cwiseAbs().maxCoeff() > 0; },
      gradients);
  return ok;
}

template <class Policy>
hsm::Mixer<Policy> mixer() {
  hsm::Random random(7);
  if constexpr (std::is_constructible_v<Policy, Index, hsm::Random&, Index>) {
    return hsm::Mixer(Policy(C, random, H), s);
  } else {
    return hsm::Mixer(Policy(C, H), s);
  }
}

template <template <class> class Policy>
bool mixer_works() {
  const std::string name(Policy<float>::kName);
  const Promise promise = Policy<float>::kStages.projected() == 0 && !Policy<float>::kStages.output
                              ? Promise::kSameBits
                              : Promise::kClose;
  const bool wide = modes_agree(name.c_str(), mixer<Policy<double>>(), promise);
  const bool narrow = modes_agree(name.c_str(), mixer<Policy<float>>(), promise);
  return backward_is_the_slope(name.c_str(), mixer<Policy<double>>()) && wide && narrow;
}

template <template <class> class... Policies>
bool mixers_work(hsm::LayerList<Policies...>) {
  bool ok = true;
  ((ok &= mixer_works<Policies>()), ...);
  return ok;
}

template <class Scalar>
hsm::CausalAttention<Scalar> attention(Index rotary = 0, Index window = 0, Index block = 0, Index top = 0) {
  hsm::Random random(7);
  return hsm::CausalAttention<Scalar>(
      hsm::Attention<Scalar>(C, H, random, {.rotary = rotary, .window = window, .block = block, .top = top}));
}

template <class Scalar>
hsm::MovingAverage<Scalar> moving_average() {
  hsm::Random random(7);
  return hsm::MovingAverage<Scalar>(hsm::Ema<Scalar>(C, 3, random));
}

template <class Scalar>
hsm::CausalLinearAttention<Scalar> linear_attention(hsm::Index decay) {
  hsm::Random random(7);
  return hsm::CausalLinearAttention<Scalar>(hsm::LinearAttention<Scalar>(C, H, random, decay));
}

template <class Scalar>
hsm::HierarchicalKernelAttention<Scalar> hierarchy(hsm::Index levels) {
  hsm::Random random(7);
  return hsm::HierarchicalKernelAttention<Scalar>(hsm::HierarchicalAttention<Scalar>(C, H, random, levels));
}

/// hsm::exp, on which gates and softmax stand, against std::exp: a compiler may have thought of real numbers.
template <class Scalar>
bool exp_is_right(const char* scalar) {
  Values<Scalar> x, y(200);
  for (int i = -100; i < 100; ++i) x.push_back(static_cast<Scalar>(0.23 * i));
  hsm::exp(200, x.data(), y.data());
  double error = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double expected = std::exp(static_cast<double>(x[i]));
    const double off = std::abs(static_cast<double>(y[i]) - expected) / expected;
    if (!(off <= error)) error = off;
  }
  return report("exp", scalar, "values", error, 4 * std::numeric_limits<Scalar>::epsilon());
}

/// Windows of a signal, each token one sample on, are what copies of them are: forward, dx and the gradient of W.
template <class Scalar>
bool windows_agree(const char* scalar) {
  using Matrix = Eigen::Matrix<Scalar, Eigen::Dynamic, Eigen::Dynamic, Eigen::ColMajor>;
  using Map = Eigen::Map<const Matrix, 0, Eigen::OuterStride<>>;
  const auto signal = random_values<Scalar>(C + T, 8);
  auto dy = random_values<Scalar>(T * C, 9);
  const Map windows(signal.data(), C, T, Eigen::OuterStride<>(1)),
      d(dy.data(), C, T, Eigen::OuterStride<>(C));
  const Matrix copy = windows;
  const auto layer = mixer<hsm::Gated<Scalar>>();
  hsm::Workspace workspace;
  const auto run = [&](const auto& x) {
    Matrix y(C, T), dx(C, T);
    auto saved = layer.make_saved();
    auto gradients = layer.make_gradients();
    layer.forward(x, y, saved, workspace);
    layer.backward(x, saved, d, dx, gradients, workspace);
    Values<Scalar> all(y.data(), y.data() + y.size());
    all.insert(all.end(), dx.data(), dx.data() + dx.size());
    const auto& weight = gradients.project.weight;
    all.insert(all.end(), weight.data(), weight.data() + weight.size());
    return all;
  };
  return report("windows", scalar, "copies", worst(run(windows), run(copy)),
                1000 * std::numeric_limits<Scalar>::epsilon());
}

/// Schedules as far as Index goes, and the random numbers that are the same everywhere.
bool platform_agrees() {
  constexpr Index L = hsm::kIndexBits;
  bool ok = hsm::DyadicSchedule{.layers = L}.shift(L - 1) == Index{1} << (L - 1);
  ok &= hsm::Coverage(hsm::DyadicSchedule{.layers = 7}).reached_count() == 128;
  ok &= hsm::ScheduleText::parse("reversed:list=1,3,9", 3).shift(0) == 9;
  const hsm::Mixer far(hsm::ScalarPair<float>(4), Index{1} << (L - 6));
  ok &= far.shift(0) == Index{1} << (L - 6);
  hsm::Random random(0);
  ok &= random.bits() == 0xE220A8397B1DCDAFull;
  ok &= random.below(1000) == 0x6E789E6AA1B965F4ull % 1000;
  ok &= random.uniform() == static_cast<double>(0x06C45D188009454Full >> 11) / 9007199254740992.0;
  std::printf("%-4s schedules and random numbers, an index of %d bits\n", ok ? "ok" : "BAD",
              hsm::kIndexBits + 1);
  return ok;
}

}  // namespace

int main() {
  bool ok = mixers_work(hsm::StandardPolicies{});
  ok &= modes_agree("attention", attention<float>(), Promise::kClose);
  ok &= modes_agree("attention", attention<double>(), Promise::kClose);
  ok &= backward_is_the_slope("attention", attention<double>());
  ok &= modes_agree("rotary", attention<float>(10000), Promise::kClose);
  ok &= modes_agree("rotary", attention<double>(10000), Promise::kClose);
  ok &= backward_is_the_slope("rotary", attention<double>(10000));
  ok &= modes_agree("ema", moving_average<float>(), Promise::kSameBits);
  ok &= modes_agree("ema", moving_average<double>(), Promise::kSameBits);
  ok &= backward_is_the_slope("ema", moving_average<double>());
  ok &= modes_agree("linear-attention", linear_attention<float>(0), Promise::kClose);
  ok &= modes_agree("linear-attention", linear_attention<double>(1), Promise::kClose);
  ok &= backward_is_the_slope("linear-attention", linear_attention<double>(0));
  ok &= backward_is_the_slope("linear-attention with decay", linear_attention<double>(1));
  ok &= modes_agree("hkt", hierarchy<float>(3), Promise::kClose);
  ok &= modes_agree("hkt", hierarchy<double>(4), Promise::kClose);
  ok &= backward_is_the_slope("hkt", hierarchy<double>(3));
  ok &= modes_agree("window", attention<float>(0, 5), Promise::kClose);
  ok &= modes_agree("window", attention<double>(0, 5), Promise::kClose);
  ok &= backward_is_the_slope("window", attention<double>(0, 5));
  ok &= modes_agree("blocks", attention<float>(0, 0, 4, 2), Promise::kClose);
  ok &= modes_agree("blocks", attention<double>(0, 0, 4, 2), Promise::kClose);
  ok &= backward_is_the_slope("blocks", attention<double>(0, 0, 4, 2));
  ok &= exp_is_right<float>("float");
  ok &= exp_is_right<double>("double");
  ok &= windows_agree<float>("float");
  ok &= windows_agree<double>("double");
  ok &= platform_agrees();
  std::printf("%s\n", ok ? "every mixer agrees with itself" : "some mixer is wrong");
  return ok ? 0 : 1;
}
