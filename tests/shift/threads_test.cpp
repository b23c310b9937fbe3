// SPDX-License-Identifier: MIT
//
// The number of threads, the kind of stores and the address of a result change no bit.
#include <hsm/core/threaded_executor.hpp>

#include "shift/mixer_cases.hpp"

namespace hsm::test::threads_test {
namespace {

template <class Policy>
class MixerThreads : public ::testing::Test {};
TYPED_TEST_SUITE(MixerThreads, FloatPolicies);

using Data = Activations<float>;

/// All that a training step and a stream give.
template <class Policy>
struct Results {
  Data y, dx, streamed;
  Policy gradients;
};

template <class Policy>
Results<Policy> run_all(const Mixer<Policy>& mixer, const Data& x, const Data& dy, Workspace& workspace) {
  Results<Policy> result{Data(x.batch, x.time, x.channels, kGarbage<float>),
                         Data(x.batch, x.time, x.channels, kGarbage<float>),
                         Data(x.batch, x.time, x.channels, kGarbage<float>), mixer.make_gradients()};
  auto saved = mixer.make_saved();
  mixer.forward(x.view(), result.y.view(), saved, workspace);
  mixer.backward(x.view(), saved, dy.view(), result.dx.view(), result.gradients, workspace);
  auto state = mixer.make_state({.streams = x.batch});
  const Index half = x.time / 2;
  mixer.extend(x.part(0, half), state, result.streamed.part(0, half), workspace);
  mixer.extend(x.part(half, x.time - half), state, result.streamed.part(half, x.time - half), workspace);
  return result;
}

template <class Policy>
void expect_same_results(const Results<Policy>& got, const Results<Policy>& reference) {
  expect_same_bits(got.y.values, reference.y.values, "y");
  expect_same_bits(got.dx.values, reference.dx.values, "dx");
  expect_same_bits(got.streamed.values, reference.streamed.values, "y of extend");
  expect_same_parameters(got.gradients, reference.gradients);
}

// 64 channels: 2048 tokens per task, so 4 tasks, whose bounds fall into sequences.
TYPED_TEST(MixerThreads, ChangeNoBit) {
  constexpr Index B = 3, T = 2300, C = 64;
  Random random(1);
  const Mixer<TypeParam> mixer(PolicyCase<TypeParam>::make(C, 4, random), Shifts{1, 300, 300, 1999});
  const Data x(B, T, C, random), dy(B, T, C, random);
  Workspace serial;
  const auto reference = run_all(mixer, x, dy, serial);
  for (const int threads : {2, 3}) {
    SCOPED_TRACE(threads);
    ThreadedExecutor executor(threads);
    Workspace workspace(executor);
    workspace.poison = threads == 2;
    expect_same_results(run_all(mixer, x, dy, workspace), reference);
    if (threads == 3) expect_same_results(run_all(mixer, x, dy, workspace), reference);  // in used scratch
  }
}

TYPED_TEST(MixerThreads, ManyShortDocumentsChangeNoBit) {
  constexpr Index N = 4500, C = 64;
  Random random(2);
  std::vector<Index> offsets{0};
  while (offsets.back() < N) {
    offsets.push_back(std::min<Index>(N, offsets.back() + static_cast<Index>(random.below(40))));
  }
  const Mixer<TypeParam> mixer(PolicyCase<TypeParam>::make(C, 4, random), Shifts{1, 3, 3, 20});
  const Data x(1, N, C, random), dy(1, N, C, random);
  const auto run = [&](Executor& executor) {
    Workspace workspace(executor);
    Results<TypeParam> result{Data(1, N, C, kGarbage<float>), Data(1, N, C, kGarbage<float>),
                              Data(1, N, C, kGarbage<float>), mixer.make_gradients()};
    auto saved = mixer.make_saved();
    mixer.packed(x.view(), offsets, result.streamed.view(), workspace);
    mixer.packed(x.view(), offsets, result.y.view(), saved, workspace);
    mixer.backward(x.view(), saved, dy.view(), result.dx.view(), result.gradients, workspace);
    return result;
  };
  SerialExecutor serial;
  ThreadedExecutor two(2), three(3);
  const auto reference = run(serial);
  expect_same_results(run(two), reference);
  expect_same_results(run(three), reference);
}

TYPED_TEST(MixerThreads, OneMixerServesSeveralThreads) {
  constexpr Index T = 300, C = 16;
  Random random(3);
  const Mixer<TypeParam> mixer(PolicyCase<TypeParam>::make(C, 4, random), 7);
  std::vector<Data> x, dy;
  for (int i = 0; i < 6; ++i) x.emplace_back(2, T, C, random), dy.emplace_back(2, T, C, random);
  std::vector<Results<TypeParam>> results;
  for (std::size_t i = 0; i < x.size(); ++i) {
    Workspace workspace;
    results.push_back(run_all(mixer, x[i], dy[i], workspace));
  }
  ThreadedExecutor callers(3);
  callers.run(static_cast<Index>(x.size()), [&](Index task, int) {
    const auto i = static_cast<std::size_t>(task);
    Workspace workspace;
    expect_same_results(run_all(mixer, x[i], dy[i], workspace), results[i]);
  });
}

/// The policies whose results are written past the cache: those without products, forward and back.
template <class Policy>
class MixerStores : public ::testing::Test {};
using StreamingPolicies = ::testing::Types<ScalarPair<float>, ChannelPair<float>, ScalarPair<double>>;
TYPED_TEST_SUITE(MixerStores, StreamingPolicies);

// Non-temporal stores begin at the first aligned byte: every address of y and dx and odd numbers of channels.
TYPED_TEST(MixerStores, StreamingChangesNoBit) {
  using Scalar = typename TypeParam::Scalar;
  Random random(4);
  for (const auto& [C, H] : {std::pair<Index, Index>{1, 1}, {3, 3}, {12, 3}, {17, 1}, {64, 4}, {2100, 1}}) {
    if (C > 64 && !std::is_same_v<TypeParam, ScalarPair<float>>) continue;
    const Mixer<TypeParam> mixer(PolicyCase<TypeParam>::make(C, H, random), 3);
    const Activations<Scalar> x(2, 70, C, random), dy(2, 70, C, random);
    const auto size = static_cast<std::size_t>(x.view().count() * C);
    Workspace cached, streaming;
    cached.stores = Stores::kCached;
    streaming.stores = Stores::kNontemporal;
    auto saved = mixer.make_saved();
    auto gradients = mixer.make_gradients();
    for (std::size_t misaligned = 0; misaligned < 9; ++misaligned) {
      std::vector<Scalar> reference(size + 32, Scalar(-7)), y = reference, d_reference = y, dx = y;
      mixer.forward(x.view(), Tokens<Scalar>(reference.data() + misaligned, 2, 70, C), saved, cached);
      mixer.backward(x.view(), saved, dy.view(), Tokens<Scalar>(d_reference.data() + misaligned, 2, 70, C),
                     gradients, cached);
      mixer.forward(x.view(), Tokens<Scalar>(y.data() + misaligned, 2, 70, C), saved, streaming);
      mixer.backward(x.view(), saved, dy.view(), Tokens<Scalar>(dx.data() + misaligned, 2, 70, C), gradients,
                     streaming);
      expect_same_bits(y, reference, "y and what lies around it");
      expect_same_bits(dx, d_reference, "dx and what lies around it");
      EXPECT_NE(y[misaligned], Scalar(-7));
    }
  }
}

}  // namespace
}  // namespace hsm::test::threads_test
