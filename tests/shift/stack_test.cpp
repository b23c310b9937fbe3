// SPDX-License-Identifier: MIT
//
// A stack run depth-first is the same as running it layer by layer, whatever the chunk; its scratch does not
// grow with the length.
#include <hsm/core/threaded_executor.hpp>
#include <hsm/shift/stack.hpp>
#include <numeric>

#include "shift/mixer_cases.hpp"

namespace hsm::test::stack_test {
namespace {

constexpr Index kChannels = 8, kStreams = 2, kLayers = 4;

template <class Policy>
std::vector<Mixer<Policy>> make_stack(Random& random) {
  std::vector<Mixer<Policy>> layers;
  for (Index l = 0; l < kLayers; ++l)
    layers.emplace_back(PolicyCase<Policy>::make(kChannels, 2, random), Index{1} << l);
  return layers;
}

template <class Policy>
class MixerStack : public ::testing::Test {};
TYPED_TEST_SUITE(MixerStack, AllPolicies);

TYPED_TEST(MixerStack, DepthFirstIsLayerByLayer) {
  using Scalar = typename TypeParam::Scalar;
  using Data = Activations<Scalar>;
  Random random(1);
  const auto layers = make_stack<TypeParam>(random);
  const Index T = 75;
  const Data x(kStreams, T, kChannels, random);
  Workspace workspace;
  Data expected = x;
  auto expected_states = make_states(layers, {.streams = kStreams});
  for (Index l = 0; l < kLayers; ++l) {
    const auto i = static_cast<std::size_t>(l);
    Data y(kStreams, T, kChannels, kGarbage<Scalar>);
    layers[i].extend(expected.view(), expected_states[i], y.view(), workspace);
    expected = y;
  }
  for (const Index chunk_bytes :
       {Index{1}, 2 * 32 * kStreams * kChannels * Index{sizeof(Scalar)}, Index{1} << 20}) {
    SCOPED_TRACE(::testing::Message() << "chunk_bytes " << chunk_bytes);
    workspace.chunk_bytes = chunk_bytes;
    workspace.stores = Stores::kNontemporal;
    auto states = make_states(layers, {.streams = kStreams});
    Data y(kStreams, T, kChannels, kGarbage<Scalar>);
    extend(layers, x.part(0, 20), states, y.part(0, 20), workspace);
    extend(layers, x.part(20, 0), states, y.part(20, 0), workspace);
    extend(layers, x.part(20, T - 20), states, y.part(20, T - 20), workspace);
    expect_same_result<TypeParam>(y.values, expected.values, "y");
    EXPECT_EQ(workspace.stores, Stores::kNontemporal);
    for (std::size_t l = 0; l < layers.size(); ++l) {
      EXPECT_EQ(states[l].count(1), T);
      if (TypeParam::kStages.projected() == 0) {
        EXPECT_TRUE(states[l] == expected_states[l]) << "layer " << l;
      }
    }
  }
}

// Layers that are a weight per channel go through the stack a cache line of channels at a time, those whose
// shifts double together.
template <class Policy>
class ChannelStack : public ::testing::Test {};
using PoliciesWithoutProducts =
    ::testing::Types<ScalarPair<float>, ScalarPair<double>, ChannelPair<float>, ChannelPair<double>>;
TYPED_TEST_SUITE(ChannelStack, PoliciesWithoutProducts);

/// Both ways of running `layers` over streams that have seen other tokens, one of them reset since, and of
/// which layer 0 has seen `ahead` tokens more; `parts` of them at a time.
template <class Policy>
void expect_layer_by_layer(const std::vector<Mixer<Policy>>& layers, Index spare, Index ahead,
                           const std::vector<Index>& parts, Random& random) {
  using Data = Activations<typename Policy::Scalar>;
  const Index C = layers[0].channels(), T = std::accumulate(parts.begin(), parts.end(), Index{0});
  ThreadedExecutor threads(3);
  Workspace workspace(threads);
  workspace.chunk_bytes = 1;  // chunks of 16 tokens
  const auto one_by_one = [&](const Data& x, auto& states) {
    Data from = x, to = x;
    for (std::size_t l = 0; l < layers.size(); ++l) {
      layers[l].extend(from.view(), states[l], to.view(), workspace);
      std::swap(from, to);
    }
    return from;
  };
  auto states = make_states(layers, {.streams = kStreams, .spare = spare}), expected_states = states;
  const Data used(kStreams, 90, C, random), more(kStreams, ahead, C, random), x(kStreams, T, C, random);
  Data y(kStreams, T, C, kGarbage<typename Policy::Scalar>), unread = used, unread_more = more;
  extend(layers, used.view(), states, unread.view(), workspace);
  expect_same_bits(unread.values, one_by_one(used, expected_states).values, "before");
  for (auto* list : {&states, &expected_states}) {
    layers[0].extend(more.view(), (*list)[0], unread_more.view(), workspace);
    for (auto& state : *list) state.reset(1);
  }
  Index first = 0;
  for (const Index n : parts) {
    extend(layers, x.part(first, n), states, y.part(first, n), workspace);
    first += n;
  }
  expect_same_bits(y.values, one_by_one(x, expected_states).values, "y");
  for (std::size_t l = 0; l < layers.size(); ++l)
    EXPECT_TRUE(states[l] == expected_states[l]) << "layer " << l;
}

TYPED_TEST(ChannelStack, IsLayerByLayerAtEveryWidthAndShift) {
  Random random(4);
  for (const std::vector<Index>& shifts :
       {std::vector<Index>{1, 40, 3, 7, 16}, {1, 2, 4, 8, 16, 32}, {2, 4, 1, 3, 6}}) {
    for (const Index channels : {2, 16, 18, 70}) {
      for (const bool rotated : {false, true}) {
        std::vector<Mixer<TypeParam>> layers;
        for (std::size_t l = 0; l < shifts.size(); ++l) {
          const Index second = rotated ? shifts[(l + 1) % shifts.size()] : shifts[l];
          layers.emplace_back(PolicyCase<TypeParam>::make(channels, 2, random), Shifts{shifts[l], second});
        }
        for (const Index spare : {0, 5}) {
          for (const Index ahead : {0, 3}) {
            SCOPED_TRACE(::testing::Message()
                         << shifts.size() << " layers, shift " << shifts[1] << " second, " << channels
                         << " channels, rotated " << rotated << ", spare " << spare << ", ahead " << ahead);
            expect_layer_by_layer(layers, spare, ahead, {67, 4, 129}, random);
          }
        }
      }
    }
  }
}

TEST(StackScratch, DoesNotGrowWithTheLength) {
  Random random(2);
  const auto layers = make_stack<Gated<float>>(random);
  std::size_t bytes[2];
  for (const Index T : {1000, 10000}) {
    Activations<float> x(3, T, kChannels, random), y = x;
    Workspace workspace;
    workspace.chunk_bytes = 1 << 12;
    auto states = make_states(layers, {.streams = 3});
    extend(layers, x.view(), states, y.view(), workspace);
    bytes[T == 1000 ? 0 : 1] = workspace.bytes();
  }
  EXPECT_EQ(bytes[0], bytes[1]);
}

// Of a stack that runs by channels: a chunk, two weights per layer and channel, and the states of one stream, in lines
// of 64 channels.
TEST(StackScratch, IsWhatAStackWithoutProductsNeeds) {
  Random random(4);
  constexpr Index C = 256, T = 600, L = 3;
  std::vector<Mixer<ScalarPair<float>>> layers;
  for (Index l = 0; l < L; ++l)
    layers.emplace_back(PolicyCase<ScalarPair<float>>::make(C, 2, random), Index{1} << l);
  const Activations<float> x(1, T, C, random);
  Activations<float> y(1, T, C);
  Workspace workspace;
  auto states = make_states(layers);
  extend(layers, x.view(), states, y.view(), workspace);
  EXPECT_LE(workspace.bytes(), 2 * sizeof(float) * C * (256 + 2 * L + 7));
}

TEST(StackErrors, AreReportedBeforeAnythingIsWritten) {
  Random random(3);
  auto layers = make_stack<ScalarPair<float>>(random);
  auto states = make_states(layers);
  const Activations<float> x(1, 10, kChannels, random);
  Activations<float> y(1, 10, kChannels, 7.0F);
  const Activations<float> untouched = y;
  Workspace workspace;
  const auto refused = [&](auto&& stack, auto& list, auto in, const std::string& message) {
    expect_refused([&] { extend(stack, in, list, y.view(), workspace); }, message);
    expect_same_bits(y.values, untouched.values, message);
    EXPECT_EQ(states[0].count(0), 0);
  };
  const std::vector<Mixer<ScalarPair<float>>> none;
  std::vector<MixerState<float>> no_states, fewer(states.begin(), states.end() - 1),
      swapped(states.rbegin(), states.rend());
  refused(none, no_states, x.view(), "extend of a stack: the number of layers must be at least 1, got 0");
  refused(layers, fewer, x.view(), "extend of a stack: the number of states must be 4, got 3");
  refused(
      layers, swapped, x.view(),
      "Mixer::extend: the state must be one of this layer, with rings of 8 x 1 values of ab, got one with "
      "rings of 8 x 8 values of ab");
  refused(layers, states, x.part(0, 9), "extend of a stack: y must be [1,9,8], got [1,10,8]");
  refused(layers, states, Tokens<const float>(y.view().data, 1, 10, kChannels),
          "extend of a stack: x and y must be apart in memory, got buffers that overlap");
  refused(layers, states, Tokens<const float>(nullptr, 1, 10, kChannels),
          "extend of a stack: x must be memory to read from, got none");
  expect_refused(
      [&] { extend(layers, x.view(), states, Tokens<float>(nullptr, 1, 10, kChannels), workspace); },
      "extend of a stack: y must be memory to write to, got none");
  EXPECT_EQ(states[0].count(0), 0);
  layers[3] = Mixer(ScalarPair<float>(4), 8);
  states[3] = layers[3].make_state();
  refused(layers, states, x.view(), "Mixer::extend: the channels of x must be 4, got 8");
}

}  // namespace
}  // namespace hsm::test::stack_test
