// SPDX-License-Identifier: MIT
//
// A quarter of a million streamed steps end where a fresh stream of the last reach + 1 tokens ends, bit for bit: what a
// stack of shift mixers remembers is finite, and no error builds up in it.
#include "shift/mixer_cases.hpp"

namespace hsm::test::long_run_test {
namespace {

/// Layers x <- x + mix(x) at the shifts 1 and 3, and the streams' states.
template <class Policy>
class Stack {
 public:
  using Scalar = typename Policy::Scalar;
  static constexpr Index kChannels = 4;

  explicit Stack(Random& random) {
    for (const Index s : {1, 3}) {
      layers_.emplace_back(PolicyCase<Policy>::make(kChannels, 2, random), s);
      Policy::visit([](std::string_view, auto& tensor) { tensor *= Scalar(0.4); },
                    layers_.back().parameters());
      states_.push_back(layers_.back().make_state());
      reach_ += s * (layers_.back().taps() - 1);
    }
  }

  Index reach() const { return reach_; }
  void reset() {
    for (auto& state : states_) state.reset();
  }
  /// The last layer's column after one more token.
  const Vector<Scalar>& step(const Scalar* token) {
    x_ = Eigen::Map<const Vector<Scalar>>(token, kChannels);
    for (std::size_t l = 0; l < layers_.size(); ++l) {
      layers_[l].step(x_, states_[l], y_, workspace_);
      x_ += y_;
    }
    return x_;
  }

 private:
  std::vector<Mixer<Policy>> layers_;
  std::vector<MixerState<Scalar>> states_;
  Index reach_ = 0;
  Vector<Scalar> x_ = Vector<Scalar>::Zero(kChannels), y_ = x_;
  Workspace workspace_;
};

template <class Policy>
class LongRun : public ::testing::Test {};
TYPED_TEST_SUITE(LongRun, FloatPolicies);  // half a second or so each; nothing here depends on the scalar

TYPED_TEST(LongRun, EndsWhereAFreshStreamOfItsReachEnds) {
  using Scalar = typename TypeParam::Scalar;
  constexpr Index kSteps = 250'000;
  Random random(1);
  Stack<TypeParam> stack(random), fresh = [] {
    Random again(1);
    return Stack<TypeParam>(again);
  }();
  const Index window = stack.reach() + 1, C = Stack<TypeParam>::kChannels;
  std::vector<Scalar> last(static_cast<std::size_t>(window * C));  // token t in slot t mod window
  for (Index t = 0; t < kSteps; ++t) {
    Scalar* token = last.data() + t % window * C;
    for (Index c = 0; c < C; ++c) token[c] = static_cast<Scalar>(random.uniform(-1, 1));
    const Vector<Scalar>& y = stack.step(token);
    if (t + 1 != window && t + 1 != kSteps && t != kSteps / 3) continue;
    fresh.reset();
    for (Index u = t + 1 - window; u < t; ++u) fresh.step(last.data() + u % window * C);
    ASSERT_TRUE(expect_same_bits(fresh.step(token), y, "after token " + std::to_string(t)));
    EXPECT_TRUE(y.allFinite());
  }
}

}  // namespace
}  // namespace hsm::test::long_run_test
