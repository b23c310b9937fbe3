// SPDX-License-Identifier: MIT
//
// The test kit finds what authors of policies and layers do wrong, and says it; what is right passes.
#include <hsm/testing/check.hpp>

#include <gtest/gtest.h>

#include <ostream>
#include <string>

#include "support/matchers.hpp"
#include "testing/faulty_pair.hpp"
#include "testing/faulty_sum.hpp"

namespace hsm::test::check_test {
namespace {

/// A fault and how its sentence begins and goes on.
template <class Fault>
struct Case {
  Fault fault;
  std::string begins, says;
};
template <class Fault>
std::ostream& operator<<(std::ostream& out, const Case<Fault>& one) {
  return out << "fault " << static_cast<int>(one.fault) << ": " << one.says;
}

void expect_sentence(const CheckResult& result, const std::string& begins, const std::string& says) {
  const std::string what = result.what();
  EXPECT_FALSE(result.ok());
  EXPECT_FALSE(static_cast<bool>(result));
  EXPECT_EQ(what.substr(0, begins.size()), begins);
  EXPECT_NE(what.find(says), std::string::npos) << what;
  EXPECT_EQ(what.find('\n'), std::string::npos) << what;
}

class CheckPolicy : public ::testing::TestWithParam<Case<PolicyFault>> {};

TEST_P(CheckPolicy, FindsTheFault) {
  expect_sentence(check_policy(FaultyPair(GetParam().fault, 4), {3}), "pair at shift 3: " + GetParam().begins,
                  GetParam().says);
}

INSTANTIATE_TEST_SUITE_P(
    Faults, CheckPolicy,
    ::testing::Values(
        Case<PolicyFault>{PolicyFault::kForgottenTensor,
                          "the gradient of b is 0, but the result depends on it",
                          "the adjoint forgets this tensor"},
        Case<PolicyFault>{PolicyFault::kDoubledSums, "the gradient of a is ", ": it is counted twice"},
        Case<PolicyFault>{PolicyFault::kOverwrittenSums, "a second backward gives a the gradient ",
                          "gradients of tensors are added to"},
        Case<PolicyFault>{PolicyFault::kEmptyAdjoint, "the gradient that output ",
                          ", 3 before it, is 0 in channel "},
        Case<PolicyFault>{PolicyFault::kDoubledAdjoint, "the gradient that output ", ": it is counted twice"},
        Case<PolicyFault>{PolicyFault::kWrongSign, "the gradient that output ", ": its sign is wrong"},
        Case<PolicyFault>{PolicyFault::kWrongSignNow, "the gradient that output ", " itself is "},
        Case<PolicyFault>{PolicyFault::kOverwrittenPast, "the gradient that output ", " itself is 0"},
        Case<PolicyFault>{PolicyFault::kUnwrittenNow, "backward gives dx nan at token ",
                          "it must write every value"},
        Case<PolicyFault>{PolicyFault::kFuture, "output ", "a layer must not read the future"},
        Case<PolicyFault>{PolicyFault::kNotInPlace, "forward_in_place gives ",
                          "kStages says in_place, but combine reads a column after it has written it"},
        Case<PolicyFault>{PolicyFault::kUnwrittenColumn, "forward gives nan at token ",
                          "it must write every value"},
        Case<PolicyFault>{PolicyFault::kMemory, "two calls of forward differ at token ",
                          "the same tokens must give the same bits"},
        Case<PolicyFault>{PolicyFault::kSwappedWeights,
                          "a .* x[t] + b .* x[t-s] with the channel_weights gives ", "stacks of such layers"},
        Case<PolicyFault>{PolicyFault::kSumsNobodyCounts, "the gradient of b is 0", "forgets"}));

TEST(CheckPolicyHeads, ReadTheirOwnRowsWhicheverTheRunBeginsWith) {
  constexpr const char* kHint = "a head must read its own rows and parameters, from run.first_head on";
  expect_sentence(check_policy(FaultyPair(PolicyFault::kFirstHeads, 6, 3), {1}),
                  "pair with heads at shifts 1, 2, 1: ", kHint);
  expect_sentence(check_policy(FaultyPair(PolicyFault::kFirstHeads, 6, 2), {2, 5, 3}),
                  "pair with heads at shifts 2, 5: ", kHint);
}

TEST(CheckPolicyHeads, RightOnesPass) {
  EXPECT_EQ(check_policy(FaultyPair(PolicyFault::kNone, 6, 3)).what(), "");
  EXPECT_TRUE(check_policy(FaultyPair(PolicyFault::kNone, 4), {1, 17}).ok());
}

TEST(CheckOfMixers, SeesTokensThatLieFarBack) {
  const auto mixer_of = [](PolicyFault fault) { return Mixer(FaultyPair(fault, 4), 20); };
  expect_sentence(check_layer(mixer_of(PolicyFault::kEmptyAdjoint)), "Mixer: the gradient that output ",
                  ", 20 before it, is 0 in channel ");
  EXPECT_EQ(check_layer(mixer_of(PolicyFault::kNone)).what(), "");
}

class CheckLayer : public ::testing::TestWithParam<Case<LayerFault>> {};

TEST_P(CheckLayer, FindsTheFault) {
  expect_sentence(check_layer(FaultySum(GetParam().fault)), "FadingSum: " + GetParam().begins,
                  GetParam().says);
}

INSTANTIATE_TEST_SUITE_P(
    Faults, CheckLayer,
    ::testing::Values(
        Case<LayerFault>{LayerFault::kForgottenTensor, "the gradient of q is 0, but the result depends on it",
                         "the adjoint forgets this tensor"},
        Case<LayerFault>{LayerFault::kDoubledGradient, "the gradient of q is ", ": it is counted twice"},
        Case<LayerFault>{LayerFault::kOverwrittenGradient, "a second backward gives q the gradient ",
                         "gradients of tensors are added to"},
        Case<LayerFault>{LayerFault::kDoubledAdjoint, "the gradient that output ", ": it is counted twice"},
        Case<LayerFault>{LayerFault::kWrongSign, "the gradient that output ", ": its sign is wrong"},
        Case<LayerFault>{LayerFault::kUnwrittenAdjoint,
                         "backward gives dx nan at token 0 of sequence 0, channel 0",
                         "it must write every value"},
        Case<LayerFault>{LayerFault::kFuture, "output 0 changes with the tokens from 1 on",
                         "a layer must not read the future"},
        Case<LayerFault>{LayerFault::kLeak, "forward changes sequence 2 with the tokens of sequence 1",
                         "sequences must not see each other"},
        Case<LayerFault>{LayerFault::kUnwritten, "forward gives nan at token 3 of sequence 0, channel 3",
                         "it must write every value"},
        Case<LayerFault>{LayerFault::kNoState, "step gives ", "the state forgets something"},
        Case<LayerFault>{LayerFault::kForgetsFill, "step after fill gives ",
                         "fill must leave the state that extend leaves"},
        Case<LayerFault>{LayerFault::kForgetsLong, "extend in chunks gives ", "the state forgets something"},
        Case<LayerFault>{LayerFault::kCountsWrong, "after extend by all tokens the state counts 17 tokens",
                         "which has read 16"},
        Case<LayerFault>{LayerFault::kStale, "a state after reset(1) gives nan at token 0 of sequence 1",
                         "stream 1 must start as a fresh one"},
        Case<LayerFault>{LayerFault::kHeldInLayer, "a state whose copy went on with other tokens gives ",
                         "copies must share nothing"},
        Case<LayerFault>{LayerFault::kNoStateGradient, "backward in chunks gives dx ", "is lost or wrong"},
        Case<LayerFault>{LayerFault::kDropsStateGradient, "backward in chunks gives dx ", "is lost or wrong"},
        Case<LayerFault>{LayerFault::kStaleRecord, "backward with a record that served a longer call gives ",
                         "a record must hold its last call alone"},
        Case<LayerFault>{LayerFault::kRefuses, "a call throws: FadingSum::backward: no gradients of states",
                         ""},
        Case<LayerFault>{LayerFault::kTakesOtherStreams, "backward takes a state_gradient of 4 streams",
                         "check_state_gradient must refuse it"},
        Case<LayerFault>{LayerFault::kIgnoresStrides, "extend changes ", ""},
        Case<LayerFault>{LayerFault::kCountsOnWorkers, "packed gives ", ""},
        Case<LayerFault>{LayerFault::kCountsOnOrder, "packed gives ", ""},
        Case<LayerFault>{LayerFault::kCannotBeSpoiled, "spoil(1) leaves stream 1 whole",
                         "what a call that threw left in part goes on"},
        Case<LayerFault>{LayerFault::kForgetsTakenBack,
                         "backward in chunks with tokens taken back in between gives ",
                         "the tokens that stayed must get what the later ones give"},
        Case<LayerFault>{
            LayerFault::kMovesOnFirst,
            "stream 0 of a state after a call that threw after 0 tasks is whole and counts 16 tokens",
            "where it must count 8"},
        Case<LayerFault>{LayerFault::kKeepsRecord, "the record of a call that threw after 0 tasks",
                         "it must be one of nothing"},
        Case<LayerFault>{LayerFault::kTakesNothingBack,
                         "stream 0 of a state after take_back of 1 token is whole and counts 9 tokens",
                         "where it must count 8"},
        Case<LayerFault>{LayerFault::kTakesBackCounts, "a state after take_back of 1 token gives ",
                         "what it was before the call, or not whole"},
        Case<LayerFault>{LayerFault::kTakesBackWhole, "a stream that was spoiled is whole after take_back",
                         "without a reset"}));

TEST(CheckLayerOptions, MoreTokensAndAnotherSeedFindTheSame) {
  EXPECT_EQ(check_layer(FaultySum(LayerFault::kNone), {.tokens = 40, .seed = 7}).what(), "");
  expect_sentence(check_layer(FaultySum(LayerFault::kWrongSign), {.tokens = 40, .seed = 7}),
                  "FadingSum: the gradient that output ", ": its sign is wrong");
}

TEST(CheckLayerOptions, ThatCannotBeAreRefused) {
  expect_refused([] { static_cast<void>(check_layer(FaultySum(LayerFault::kNone), {.tokens = 7})); },
                 "check_layer: tokens must be at least 8, got 7");
  expect_refused([] { static_cast<void>(check_policy(FaultyPair(PolicyFault::kNone, 4), {})); },
                 "check_policy: the shifts must be at least one, got none");
}

TEST(CheckPolicyShifts, ThatAMixerRefusesAreToldAsItTellsThem) {
  EXPECT_EQ(check_policy(FaultyPair(PolicyFault::kNone, 4), {0}).what(),
            "pair at shift 0: a call throws: Mixer: shift must be at least 1, got 0");
}

/// A layer that bears no values far from those that it was given.
struct Strict : FadingSum<double> {
  Strict() : FadingSum<double>(3) {}
  void check(const char* who) const {
    if ((own.q.array() - 0.5).abs().maxCoeff() > 1e-3)
      throw std::invalid_argument(std::string(who) + ": q must be near 1/2");
  }
};

TEST(CheckLayerNoise, IsLeftOutWhereALayerDoesNotBearIt) { EXPECT_EQ(check_layer(Strict()).what(), ""); }

}  // namespace
}  // namespace hsm::test::check_test
