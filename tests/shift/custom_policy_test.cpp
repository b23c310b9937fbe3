// SPDX-License-Identifier: MIT
//
// Policies that the library does not have, to show that the engine asks for no more than the concept says, in
// combinations of stages that no policy of the library has.
#include <algorithm>
#include <hsm/core/threaded_executor.hpp>
#include <hsm/testing/check_policy.hpp>

#include "shift/mixer_cases.hpp"

namespace hsm::test::custom_policy_test {
namespace {

/// y[t] = sigmoid(W x[t]) .* sum_{k<K} u_k x[t - k s], u_k = 1 / (1 + k): more than two taps of x itself.
struct GatedTaps {
  using Scalar = double;
  static constexpr std::string_view kName = "gated-taps";
  static constexpr Stages kStages{.shifts_input = true, .local = 1};

  Linear<double> project;
  Index tap_count = 4;

  GatedTaps(Index C, Random& random) : project(C, C, 0, 0.5, random) {}
  Index channels() const { return project.in(); }
  Index heads() const { return 2; }
  Index taps() const { return tap_count; }

  template <class F, class Self, class... More>
  static void visit(F&& f, Self& self, More&... more) {
    Linear<double>::visit(named("project", f), self.project, more.project...);
  }

  static double weight(Index k) { return 1.0 / static_cast<double>(1 + k); }

  void combine(const Run<double>& run, Columns<double> z) const {
    z.setZero();
    for (Index k = 0; k < tap_count; ++k) z += weight(k) * run.tap(k);
    z.array() /= 1 + (-run.local().array()).exp();
  }

  void adjoint(const Run<double>& run, ConstColumns<double> dz, const RunGradient<double>& d) const {
    const Eigen::ArrayXXd gate = 1 / (1 + (-run.local().array()).exp());
    Eigen::ArrayXXd sum = Eigen::ArrayXXd::Zero(run.rows, run.count);
    for (Index k = 0; k < tap_count; ++k) sum += weight(k) * run.tap(k).array();
    d.local() = (dz.array() * sum * gate * (1 - gate)).matrix();
    for (Index k = tap_count - 1; k >= 0; --k) {
      if (run.present(k)) d.tap(k).array() += weight(k) * gate * dz.array();
    }
  }
};

Values mix(const GatedTaps& policy, const Shifts& shifts, const Values& x) {
  const Index C = policy.channels(), T = token_count(x, C);
  Values y;
  for (Index t = 0; t < T; ++t) {
    for (Index c = 0; c < C; ++c) {
      double sum = 0;
      for (Index k = 0; k < policy.taps(); ++k) {
        sum += 1.0 / static_cast<double>(1 + k) * value(x, t - k * shift_of(shifts, c, C), c, C);
      }
      y.push_back(sum / (1 + std::exp(-linear_row(policy.project, c, x, t))));
    }
  }
  return y;
}

/// y[t] = W_o (A x[t] + B x[t-s]): a pair without x itself, with an output product.
struct BiasedPair {
  using Scalar = double;
  static constexpr std::string_view kName = "biased-pair";
  static constexpr Stages kStages{.local = 1, .shifted = 1, .output = true};

  Linear<double> project, output;

  BiasedPair(Index C, Random& random) : project(2 * C, C, 2 * C, 0.5, random), output(C, C, C, 0.5, random) {
    for (Index i = 0; i < 2 * C; ++i) project.bias[i] = random.normal();
    for (Index i = 0; i < C; ++i) output.bias[i] = random.normal();
  }
  Index channels() const { return project.in(); }
  Index heads() const { return 2; }

  template <class F, class Self, class... More>
  static void visit(F&& f, Self& self, More&... more) {
    Linear<double>::visit(named("project", f), self.project, more.project...);
    Linear<double>::visit(named("output", f), self.output, more.output...);
  }

  void combine(const Run<double>& run, Columns<double> z) const { z = run.local() + run.tap(1); }
  void adjoint_now(const Run<double>&, ConstColumns<double> dz, const RunGradient<double>& d,
                   std::span<double>) const {
    d.local() = dz;
    d.tap(0).setZero();
  }
  void adjoint_past(const Run<double>&, ConstColumns<double> dz, const RunGradient<double>& d) const {
    d.tap(1) += dz;
  }
};

Values mix(const BiasedPair& policy, const Shifts& shifts, const Values& x) {
  const Index C = policy.channels(), T = token_count(x, C);
  Values z, y;
  for (Index t = 0; t < T; ++t) {
    for (Index c = 0; c < C; ++c) {
      z.push_back(linear_row(policy.project, c, x, t) +
                  linear_row(policy.project, C + c, x, t - shift_of(shifts, c, C)));
    }
  }
  for (Index t = 0; t < T; ++t) {
    for (Index c = 0; c < C; ++c) y.push_back(linear_row(policy.output, c, z, t));
  }
  return y;
}

/// y[t] = sum_{k<4} w_kh x[t - k s] with weights of its own per head: parameters that only sums can reach.
struct WeightedTaps {
  using Scalar = double;
  static constexpr std::string_view kName = "weighted-taps";
  static constexpr Stages kStages{.shifts_input = true};
  static constexpr Index kTaps = 4;

  Eigen::MatrixXd w;  // [K, H]

  WeightedTaps(Index, Random& random) : w(kTaps, 2) {
    for (Index i = 0; i < w.size(); ++i) w.data()[i] = random.normal();
  }
  Index channels() const { return 4; }
  Index heads() const { return 2; }
  Index taps() const { return kTaps; }

  template <class F, class Self, class... More>
  static void visit(F&& f, Self& self, More&... more) {
    f("w", self.w, more.w...);
  }

  void combine(const Run<double>& run, Columns<double> z) const {
    const Index n = run.rows_per_head();
    z.setZero();
    for (Index h = 0; h < run.heads; ++h) {
      for (Index k = 0; k < kTaps; ++k)
        z.middleRows(h * n, n) += w(k, run.first_head + h) * run.tap(k).middleRows(h * n, n);
    }
  }
  void adjoint(const Run<double>& run, ConstColumns<double> dz, const RunGradient<double>& d,
               std::span<double> sums) const {
    const Index n = run.rows_per_head();
    EXPECT_EQ(static_cast<Index>(sums.size()), w.size());
    for (Index k = kTaps - 1; k >= 0; --k) {
      EXPECT_EQ(d.tap(k).rows(), run.present(k) ? run.rows : 0);  // nothing to write to where no token is
      if (!run.present(k)) continue;
      for (Index h = 0; h < run.heads; ++h) {
        const Index head = run.first_head + h;
        d.tap(k).middleRows(h * n, n) += w(k, head) * dz.middleRows(h * n, n);
        sums[static_cast<std::size_t>(head * kTaps + k)] +=
            dz.middleRows(h * n, n).cwiseProduct(run.tap(k).middleRows(h * n, n)).sum();
      }
    }
  }
  Index sum_count() const { return w.size(); }
  void add_sums(std::span<const double> sums, WeightedTaps& gradients) const {
    for (Index i = 0; i < w.size(); ++i) gradients.w.data()[i] += sums[static_cast<std::size_t>(i)];
  }
};

Values mix(const WeightedTaps& policy, const Shifts& shifts, const Values& x) {
  const Index C = policy.channels(), T = token_count(x, C);
  Values y;
  for (Index t = 0; t < T; ++t) {
    for (Index c = 0; c < C; ++c) {
      double sum = 0;
      for (Index k = 0; k < WeightedTaps::kTaps; ++k)
        sum += policy.w(k, c / (C / 2)) * value(x, t - k * shift_of(shifts, c, C), c, C);
      y.push_back(sum);
    }
  }
  return y;
}

static_assert(MixingPolicy<GatedTaps> && MixingPolicy<BiasedPair> && MixingPolicy<WeightedTaps>);

template <class Policy>
class CustomPolicy : public ::testing::Test {};
using CustomPolicies = ::testing::Types<GatedTaps, BiasedPair, WeightedTaps>;
TYPED_TEST_SUITE(CustomPolicy, CustomPolicies);

using Data = Activations<double>;

TYPED_TEST(CustomPolicy, AgreesWithItsOracleInEveryMode) {
  Random random(1);
  Workspace workspace;
  workspace.poison = true;
  for (const Shifts& shifts : {Shifts{1, 1}, Shifts{3, 40}, Shifts{900, 1700}}) {
    const TypeParam policy(4, random);
    const Mixer<TypeParam> mixer(policy, shifts);
    for (const Index T : {1, 50, 5000}) {
      const Data x(2, T, 4, random);
      Data y(2, T, 4), extended(2, T, 4);
      const Values expected = mix_documents(policy, shifts, x.wide(), T);
      mixer.forward(x.view(), y.view(), workspace);
      expect_close_to_scale(y.values, expected, Tolerance<double>::forward, "forward");
      auto state = mixer.make_state({.streams = 2});
      for (Index t = 0; t < T;) {
        const Index count = t < 20 ? 1 : std::min<Index>(T - t, 2500);
        mixer.extend(x.part(t, count), state, extended.part(t, count), workspace);
        t += count;
      }
      expect_close_to_scale(extended.values, expected, Tolerance<double>::forward, "extend");
    }
  }
}

TYPED_TEST(CustomPolicy, PassesTheTestKit) {
  Random random(2);
  EXPECT_EQ(check_policy(TypeParam(4, random), {1, 3, 9}).what(), "");
}

/// A pair policy that claims to have more taps than its adjoint knows of.
struct PairOfThree : BiasedPair {
  using BiasedPair::BiasedPair;
  Index taps() const { return 3; }
};

TEST(CustomPolicyTaps, AreCheckedWhereAMixerIsMade) {
  Random random(3);
  GatedTaps policy(4, random);
  for (const Index K : {0, 1, 17}) {
    policy.tap_count = K;
    EXPECT_THROW(Mixer<GatedTaps>(policy, 1), std::invalid_argument) << K;
  }
  policy.tap_count = 16;
  EXPECT_EQ(Mixer<GatedTaps>(policy, 1).taps(), 16);
  EXPECT_THROW(Mixer<PairOfThree>(PairOfThree(4, random), 1), std::invalid_argument);
}

// Many documents share a bounded number of sums; their order, and so every bit, does not depend on the threads.
TEST(CustomPolicySums, OfManyDocumentsAreThoseOfEachAlone) {
  Random random(4);
  const WeightedTaps policy(4, random);
  const Mixer<WeightedTaps> mixer(policy, Shifts{1, 2});
  std::vector<Index> offsets{0};
  while (offsets.size() <= 700) offsets.push_back(offsets.back() + static_cast<Index>(random.below(6)));
  const Index N = offsets.back();
  const Data x(1, N, 4, random), dy(1, N, 4, random);
  Data y(1, N, 4), dx(1, N, 4, kGarbage<double>), threaded_dx = dx;
  ThreadedExecutor executor(3);
  Workspace workspace, threads(executor);
  auto saved = mixer.make_saved();
  auto gradients = mixer.make_gradients(), threaded = gradients, alone = gradients;
  mixer.packed(x.view(), offsets, y.view(), saved, workspace);
  mixer.backward(x.view(), saved, dy.view(), dx.view(), gradients, workspace);
  mixer.backward(x.view(), saved, dy.view(), threaded_dx.view(), threaded, threads);
  expect_same_bits(threaded_dx.values, dx.values, "dx");
  expect_same_parameters(threaded, gradients);
  for (std::size_t i = 0; i + 1 < offsets.size(); ++i) {
    const Index first = offsets[i], count = offsets[i + 1] - first;
    mixer.forward(x.part(first, count), y.part(first, count), saved, workspace);
    mixer.backward(x.part(first, count), saved, dy.part(first, count), dx.part(first, count), alone,
                   workspace);
  }
  EXPECT_GT(alone.w.col(0).cwiseAbs().minCoeff(),
            0.01);  // the far taps of head 1 reach out of every document
  expect_close_parameters(gradients, alone, Tolerance<double>::gradient);
}

/// A tensor that no product and no sum would ever give a gradient.
struct Forgotten : BiasedPair {
  Vector<double> gain = Vector<double>::Ones(4);
  using BiasedPair::BiasedPair;
  template <class F, class Self, class... More>
  static void visit(F&& f, Self& self, More&... more) {
    BiasedPair::visit(f, self, more...);
    f("gain", self.gain, more.gain...);
  }
};

TEST(CustomPolicySums, AreAskedForWhereATensorNeedsThem) {
  Random random(5);
  expect_refused(
      [&] { Mixer<Forgotten>(Forgotten(4, random), 1); },
      "Mixer: the policy biased-pair must be one with sum_count and add_sums, which its tensor gain "
      "needs for its gradient, got one without");
}

/// An author who writes to planes that the policy does not have, in each half of the adjoint.
struct Careless {
  using Scalar = double;
  static constexpr std::string_view kName = "careless";
  static constexpr Stages kStages{.shifts_input = true};
  Index channels() const { return 4; }
  Index heads() const { return 2; }
  template <class F, class Self, class... More>
  static void visit(F&&, Self&, More&...) {}

  void combine(const Run<double>& run, Columns<double> z) const {
    EXPECT_EQ(run.local().rows(), 0);
    EXPECT_EQ(run.tap(0, 1).rows(), 0);
    z = run.tap(0) + run.tap(1);
  }
  void adjoint_now(const Run<double>&, ConstColumns<double> dz, const RunGradient<double>& d,
                   std::span<double>) const {
    d.local().setConstant(1e6);
    d.tap(0, 1).setConstant(1e6);
    d.tap(1).setConstant(1e6);
    d.tap(0) = dz;
  }
  void adjoint_past(const Run<double>&, ConstColumns<double> dz, const RunGradient<double>& d) const {
    d.local().setConstant(1e6);
    d.tap(0).setConstant(1e6);
    d.tap(1) += dz;
  }
};

// What cannot be inherited from is no policy, and no error.
static_assert(MixingPolicy<Careless> && !MixingPolicy<int> && !MixingPolicy<Careless*>);
// Unless a pass says so, results go through the cache.
static_assert(!Run<double>{}.nontemporal && !RunGradient<double>{}.nontemporal);

TEST(CarelessPolicy, FindsNothingToWriteToBesideItsOwn) {
  EXPECT_EQ(check_policy(Careless(), {1, 7}).what(), "");
}

}  // namespace
}  // namespace hsm::test::custom_policy_test
