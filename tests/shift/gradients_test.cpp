// SPDX-License-Identifier: MIT
//
// Gradients against central differences of the oracles, and against each other: documents packed and alone,
// whole sequences and chunks joined by the gradient of the state.
#include <algorithm>

#include "shift/mixer_cases.hpp"

namespace hsm::test::gradients_test {
namespace {

/// What backward gives.
template <class Policy>
struct Gradients {
  Activations<typename Policy::Scalar> dx;
  Policy parameters;
};

/// forward and backward of x with dy; dx begins as garbage.
template <class Policy>
Gradients<Policy> backward(const Mixer<Policy>& mixer, const Activations<typename Policy::Scalar>& x,
                           const Activations<typename Policy::Scalar>& dy) {
  using Scalar = typename Policy::Scalar;
  Workspace workspace;
  workspace.poison = true;
  Activations<Scalar> y(x.batch, x.time, x.channels);
  Gradients<Policy> result{Activations<Scalar>(x.batch, x.time, x.channels, kGarbage<Scalar>),
                           mixer.make_gradients()};
  auto saved = mixer.make_saved();
  mixer.forward(x.view(), y.view(), saved, workspace);
  mixer.backward(x.view(), saved, dy.view(), result.dx.view(), result.parameters, workspace);
  return result;
}

/// The same in chunks that end at `cuts`, backpropagated from the last to the first.
template <class Policy>
Gradients<Policy> backward_in_chunks(const Mixer<Policy>& mixer,
                                     const Activations<typename Policy::Scalar>& x,
                                     const Activations<typename Policy::Scalar>& dy,
                                     const std::vector<Index>& cuts, Index spare = 0) {
  using Scalar = typename Policy::Scalar;
  Workspace workspace;
  workspace.poison = true;
  Activations<Scalar> y(x.batch, x.time, x.channels);
  Gradients<Policy> result{Activations<Scalar>(x.batch, x.time, x.channels, kGarbage<Scalar>),
                           mixer.make_gradients()};
  auto state = mixer.make_state({.streams = x.batch, .spare = spare});
  std::vector<MixerSaved<Scalar>> saved(cuts.size());
  for (std::size_t i = 0; i < cuts.size(); ++i) {
    const Index first = i == 0 ? 0 : cuts[i - 1], count = cuts[i] - first;
    mixer.extend(x.part(first, count), state, y.part(first, count), saved[i], workspace);
  }
  auto state_gradient = mixer.make_state({.streams = x.batch, .spare = spare});
  for (std::size_t i = cuts.size(); i-- > 0;) {
    const Index first = i == 0 ? 0 : cuts[i - 1], count = cuts[i] - first;
    mixer.backward(x.part(first, count), saved[i], dy.part(first, count), result.dx.part(first, count),
                   result.parameters, workspace, &state_gradient);
  }
  return result;
}

template <class Policy>
class MixerGradients : public ::testing::Test {};
TYPED_TEST_SUITE(MixerGradients, AllPolicies);

TYPED_TEST(MixerGradients, AgreeWithCentralDifferencesOfTheOracle) {
  using Scalar = typename TypeParam::Scalar;
  Random random(1);
  for (const Shifts& shifts : {Shifts{1, 1}, Shifts{3, 3}, Shifts{2, 5}, Shifts{1, 30}}) {
    SCOPED_TRACE(::testing::PrintToString(shifts));
    const TypeParam policy = PolicyCase<TypeParam>::make(4, 2, random);
    const Mixer<TypeParam> mixer(policy, shifts);
    const Activations<Scalar> x(2, 9, 4, random), dy(2, 9, 4, random);
    const auto gradients = backward(mixer, x, dy);
    const auto wide = PolicyCase<TypeParam>::widened(policy);
    expect_close_to_scale(gradients.dx.values,
                          difference_input(wide, shifts, x.wide(), dy.wide(), 9, kDifferenceStep),
                          Tolerance<Scalar>::difference, "dx");
    expect_close_parameters(gradients.parameters,
                            difference_parameters(wide, shifts, x.wide(), dy.wide(), 9, kDifferenceStep),
                            Tolerance<Scalar>::difference);
  }
}

// The loss is over the last chunk alone, so what reaches the tokens before it went through the state.
TYPED_TEST(MixerGradients, OfAStateAgreeWithCentralDifferences) {
  using Scalar = typename TypeParam::Scalar;
  Random random(2);
  for (const Shifts& shifts : {Shifts{1, 1}, Shifts{3, 3}, Shifts{2, 6}}) {
    SCOPED_TRACE(::testing::PrintToString(shifts));
    const TypeParam policy = PolicyCase<TypeParam>::make(4, 2, random);
    const Mixer<TypeParam> mixer(policy, shifts);
    const Activations<Scalar> x(2, 12, 4, random);
    Activations<Scalar> dy(2, 12, 4, random);
    for (Index b = 0; b < 2; ++b) std::fill(dy.view().at(b, 0), dy.view().at(b, 7), Scalar(0));
    const auto gradients = backward_in_chunks(mixer, x, dy, {4, 7, 9, 12});
    const auto wide = PolicyCase<TypeParam>::widened(policy);
    expect_close_to_scale(gradients.dx.values,
                          difference_input(wide, shifts, x.wide(), dy.wide(), 12, kDifferenceStep),
                          Tolerance<Scalar>::difference, "dx");
    expect_close_parameters(gradients.parameters,
                            difference_parameters(wide, shifts, x.wide(), dy.wide(), 12, kDifferenceStep),
                            Tolerance<Scalar>::difference);
  }
}

TYPED_TEST(MixerGradients, OfChunksAreThoseOfTheWholeSequence) {
  using Scalar = typename TypeParam::Scalar;
  constexpr Index T = 120;
  Random random(3);
  for (const Index s : {1, 4, 33, 200}) {
    const Mixer<TypeParam> mixer(PolicyCase<TypeParam>::make(12, 3, random), Shifts{s, s, 2 * s + 1});
    const Activations<Scalar> x(3, T, 12, random), dy(3, T, 12, random);
    const auto whole = backward(mixer, x, dy);
    for (int round = 0; round < 6; ++round) {
      std::vector<Index> cuts{T};
      for (int i = 0; i < 5; ++i) cuts.push_back(static_cast<Index>(random.below(T + 1)));
      if (round == 0) cuts = {T};
      if (round == 1) cuts = {1, 2, 3, 60, 61, T};
      std::sort(cuts.begin(), cuts.end());
      SCOPED_TRACE(::testing::Message() << "s=" << s << " cuts " << ::testing::PrintToString(cuts));
      const auto chunks = backward_in_chunks(mixer, x, dy, cuts, round);
      expect_close_to_scale(chunks.dx.values, whole.dx.values, Tolerance<Scalar>::gradient, "dx");
      expect_close_parameters(chunks.parameters, whole.parameters, Tolerance<Scalar>::gradient);
    }
  }
}

// Without a gradient of the state, what lies before the call is a constant.
TYPED_TEST(MixerGradients, OfOneChunkStopAtItsBeginning) {
  using Scalar = typename TypeParam::Scalar;
  Random random(4);
  Workspace workspace;
  for (const Index s : {1, 5, 13}) {
    const Mixer<TypeParam> mixer(PolicyCase<TypeParam>::make(6, 2, random), Shifts{s, 2});
    const Activations<Scalar> x(2, 40, 6, random);
    Activations<Scalar> dy(2, 40, 6, random), y(2, 40, 6), dx(2, 40, 6, kGarbage<Scalar>);
    for (Index b = 0; b < 2; ++b) std::fill(dy.view().at(b, 0), dy.view().at(b, 17), Scalar(0));
    auto state = mixer.make_state({.streams = 2});
    auto saved = mixer.make_saved();
    auto unused = mixer.make_gradients();
    mixer.extend(x.part(0, 17), state, y.part(0, 17), workspace);
    mixer.extend(x.part(17, 23), state, y.part(17, 23), saved, workspace);
    mixer.backward(x.part(17, 23), saved, dy.part(17, 23), dx.part(17, 23), unused, workspace);
    const auto whole = backward(mixer, x, dy);
    for (Index b = 0; b < 2; ++b) {
      expect_close(dx.view().at(b, 17), whole.dx.view().at(b, 17), Index{23 * 6},
                   Tolerance<Scalar>::gradient * largest(whole.dx.values), 0.0, "dx");
    }
  }
}

TYPED_TEST(MixerGradients, DoNotPassAResetOfAStream) {
  using Scalar = typename TypeParam::Scalar;
  Random random(5);
  Workspace workspace;
  const Mixer<TypeParam> mixer(PolicyCase<TypeParam>::make(6, 2, random), Shifts{3, 9});
  const Activations<Scalar> x(2, 30, 6, random), dy(2, 30, 6, random);
  Activations<Scalar> y(2, 30, 6), dx(2, 30, 6, kGarbage<Scalar>), alone = dx;
  auto state = mixer.make_state({.streams = 2}), state_gradient = state;
  auto before = mixer.make_saved(), after = mixer.make_saved(), saved = mixer.make_saved();
  auto gradients = mixer.make_gradients(), reference = mixer.make_gradients();
  mixer.extend(x.part(0, 14), state, y.part(0, 14), before, workspace);
  state.reset(1);
  mixer.extend(x.part(14, 16), state, y.part(14, 16), after, workspace);
  mixer.backward(x.part(14, 16), after, dy.part(14, 16), dx.part(14, 16), gradients, workspace,
                 &state_gradient);
  mixer.backward(x.part(0, 14), before, dy.part(0, 14), dx.part(0, 14), gradients, workspace,
                 &state_gradient);
  const auto document = [&](Index b, Index first, Index count) {
    const auto part = [&](auto&& view) { return view.sequence(b).slice(first, count); };
    mixer.forward(part(x.view()), part(y.view()), saved, workspace);
    mixer.backward(part(x.view()), saved, part(dy.view()), part(alone.view()), reference, workspace);
  };
  document(0, 0, 30), document(1, 0, 14), document(1, 14, 16);
  expect_close_to_scale(dx.values, alone.values, Tolerance<Scalar>::gradient, "dx");
  expect_close_parameters(gradients, reference, Tolerance<Scalar>::gradient);
}

TYPED_TEST(MixerGradients, OfPackedDocumentsAreThoseOfEachAlone) {
  using Scalar = typename TypeParam::Scalar;
  Random random(6);
  Workspace workspace;
  workspace.poison = true;
  for (const Index s : {1, 4, 50}) {
    const Mixer<TypeParam> mixer(PolicyCase<TypeParam>::make(6, 2, random), Shifts{s, s + 1});
    const std::vector<Index> offsets{0,         0,          1,          1 + s,     2 + 2 * s,
                                     2 + 2 * s, 90 + 2 * s, 93 + 2 * s, 93 + 2 * s};
    const Index N = offsets.back();
    const Activations<Scalar> x(1, N, 6, random), dy(1, N, 6, random);
    Activations<Scalar> y(1, N, 6), dx(1, N, 6, kGarbage<Scalar>), alone = dx;
    auto gradients = mixer.make_gradients(), reference = mixer.make_gradients();
    auto saved = mixer.make_saved();
    mixer.packed(x.view(), offsets, y.view(), saved, workspace);
    mixer.backward(x.view(), saved, dy.view(), dx.view(), gradients, workspace);
    for (std::size_t i = 0; i + 1 < offsets.size(); ++i) {
      const Index first = offsets[i], count = offsets[i + 1] - first;
      mixer.forward(x.part(first, count), y.part(first, count), saved, workspace);
      mixer.backward(x.part(first, count), saved, dy.part(first, count), alone.part(first, count), reference,
                     workspace);
    }
    expect_close_to_scale(dx.values, alone.values, Tolerance<Scalar>::gradient, "dx");
    expect_close_parameters(gradients, reference, Tolerance<Scalar>::gradient);
  }
}

// Many tasks per call: their bounds fall inside of runs, and partners lie in other tasks.
TYPED_TEST(MixerGradients, OfLongSequencesAreThoseOfShortChunks) {
  using Scalar = typename TypeParam::Scalar;
  constexpr Index T = 4500, C = 32;
  Random random(8);
  for (const Index s : {1, 2500}) {
    const Mixer<TypeParam> mixer(PolicyCase<TypeParam>::make(C, 2, random), Shifts{s, 77});
    const Activations<Scalar> x(1, T, C, random), dy(1, T, C, random);
    const auto whole = backward(mixer, x, dy);
    const auto chunks = backward_in_chunks(mixer, x, dy, {500, 3000, 3001, T});
    expect_close_to_scale(chunks.dx.values, whole.dx.values, Tolerance<Scalar>::gradient, "dx");
    expect_close_parameters(chunks.parameters, whole.parameters, Tolerance<Scalar>::gradient);
  }
}

}  // namespace
}  // namespace hsm::test::gradients_test
