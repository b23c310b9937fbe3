// SPDX-License-Identifier: MIT
//
// Attention in pieces: any cut of time is forward, and each of several streams, all at once or chosen ones,
// is as if it were alone.
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "attention/attention_cases.hpp"

namespace hsm::test::modes_test {
namespace {

template <class Scalar>
class AttentionModes : public testing::Test {};
TYPED_TEST_SUITE(AttentionModes, Scalars);

TYPED_TEST(AttentionModes, AnyCutOfTimeIsForward) {
  for (const Form& form : kForms) {
    SCOPED_TRACE(testing::Message() << form);
    const Index C = 20, H = form.rotary > 0 ? 2 : 4, T = 230, B = 2;
    const auto attention = make_attention<TypeParam>(C, H, form);
    Random random(14);
    const auto x = random_matrix<TypeParam>(C, B * T, random);
    Matrix<TypeParam> y(C, B * T), cut(C, B * T);
    Workspace workspace;
    const Tokens<const TypeParam> in(x.data(), B, T, C);
    const Tokens<TypeParam> out(cut.data(), B, T, C);
    attention.forward(in, Tokens<TypeParam>(y.data(), B, T, C), workspace);
    auto whole = attention.make_state({.streams = B});
    attention.extend(in, whole, out, workspace);
    expect_close_to_scale(cut, y, Tolerance<TypeParam>::mode, "extend by all");

    constexpr Index kStep = 0, kRandom = -1;
    for (const Index chunk : {kStep, Index{1}, Index{2}, Index{3}, Index{7}, Index{64}, kRandom, kRandom}) {
      const std::string label = "chunks of " + std::to_string(chunk);
      auto state = attention.make_state({.streams = B, .capacity = chunk % 2 ? T : 0});
      cut.setConstant(std::numeric_limits<TypeParam>::quiet_NaN());
      for (Index t = 0; t < T;) {
        const Index wanted =
            chunk == kRandom ? static_cast<Index>(random.below(90)) : std::max<Index>(1, chunk);
        const Index count = std::min<Index>(T - t, wanted);
        if (chunk == kStep) {
          attention.step(in.slice(t, 1), state, out.slice(t, 1), workspace);
        } else {
          attention.extend(in.slice(t, count), state, out.slice(t, count), workspace);
        }
        t += count;
        for (Index b = 0; b < B; ++b) ASSERT_EQ(state.count(b), t);
      }
      expect_close_to_scale(cut, y, Tolerance<TypeParam>::mode, label);
      for (Index b = 0; b < B; ++b)
        expect_close_to_scale(cache_of(state, b), cache_of(whole, b), Tolerance<TypeParam>::mode, label);
    }
  }
}

TYPED_TEST(AttentionModes, AStepTakesTheTokensOfItsStreamsInAnyShape) {
  for (const Form& form : kForms) {
    SCOPED_TRACE(testing::Message() << form);
    const Index C = 12, B = 3, T = 5;
    const auto attention = make_attention<TypeParam>(C, 2, form);
    Random random(15);
    Workspace workspace;
    auto state = attention.make_state({.streams = B}), other = state;
    for (Index t = 0; t < T; ++t) {
      const auto x = random_matrix<TypeParam>(C, B, random);
      Matrix<TypeParam> y(C, B), again(C, B);
      attention.step(x, state, y, workspace);
      attention.step(Tokens<const TypeParam>(x.data(), B, 1, C), other,
                     Tokens<TypeParam>(again.data(), B, 1, C), workspace);
      expect_same_bits(again, y, "[B,1,C]");
    }
    expect_same_state(other, state, "[B,1,C]");
  }
}

TYPED_TEST(AttentionModes, AStepOfAListIsTheStepOfAStateWithThoseStreams) {
  for (const Form& form : kForms) {
    SCOPED_TRACE(testing::Message() << form);
    const Index C = 12, T = 80;
    const auto attention = make_attention<TypeParam>(C, 2, form);
    const std::vector<Index> streams = {4, 1, 3};
    const auto B = static_cast<Index>(streams.size());
    Random random(16);
    Workspace workspace;
    auto some = attention.make_state({.streams = B}), many = attention.make_state({.streams = 5});
    for (Index t = 0; t < T; ++t) {
      const auto x = random_matrix<TypeParam>(C, B, random);
      Matrix<TypeParam> y(C, B), chosen(C, B);
      attention.step(x, some, y, workspace);
      attention.step(x, streams, many, chosen, workspace);
      ASSERT_TRUE(expect_same_bits(chosen, y, "step " + std::to_string(t)));
    }
    for (Index i = 0; i < B; ++i)
      expect_same_stream(many, streams[static_cast<std::size_t>(i)], some, i, "stream " + std::to_string(i));
    EXPECT_EQ(many.count(0), 0);
    EXPECT_EQ(many.count(2), 0);
  }
}

TYPED_TEST(AttentionModes, StreamsOfDifferentLengthsGoOnByThemselves) {
  for (const Form& form : kForms) {
    SCOPED_TRACE(testing::Message() << form);
    const Index C = 8;
    const auto attention = make_attention<TypeParam>(C, 2, form);
    Random random(16);
    const auto x = random_matrix<TypeParam>(C, 40, random);
    Workspace workspace;
    auto both = attention.make_state({.streams = 2});
    Matrix<TypeParam> now(C, 2), y(C, 2);
    for (Index t = 0; t < 40; ++t) {  // stream 1 starts again at t = 25
      if (t == 25) both.reset(1);
      now.col(0) = x.col(t);
      now.col(1) = x.col(t >= 25 ? t - 25 : t);
      attention.step(now, both, y, workspace);
    }
    EXPECT_EQ(both.count(0), 40);
    EXPECT_EQ(both.count(1), 15);
    const auto expected = reference_forward(attention, x);
    const auto token = [&](Index t) {
      return std::vector<double>(expected.begin() + t * C, expected.begin() + (t + 1) * C);
    };
    expect_close_to_scale(to_double(y.col(0)), token(39), Tolerance<TypeParam>::forward, "stream 0");
    expect_close_to_scale(to_double(y.col(1)), token(14), Tolerance<TypeParam>::forward, "stream 1");
  }
}

// Streams come and go: in each round some of them, in any order, take some tokens each, and one may start
// again.
TYPED_TEST(AttentionModes, ChosenStreamsAreEachOnTheirOwnAndTheOthersUnchanged) {
  for (const Form& form : kForms) {
    SCOPED_TRACE(testing::Message() << form);
    const Index C = 12, S = 5, kMost = 400;
    const auto attention = make_attention<TypeParam>(C, 2, form);
    Random random(17);
    Workspace workspace;
    std::vector<Matrix<TypeParam>> x, y;
    for (Index s = 0; s < S; ++s) {
      x.push_back(random_matrix<TypeParam>(C, kMost, random));
      y.push_back(Matrix<TypeParam>::Zero(C, kMost));
    }
    auto state = attention.make_state({.streams = S});
    for (int round = 0; round < 30; ++round) {
      std::vector<Index> streams(S), offsets = {0};
      std::iota(streams.begin(), streams.end(), Index{0});
      for (std::size_t i = streams.size(); i > 1; --i) std::swap(streams[i - 1], streams[random.below(i)]);
      streams.resize(random.below(S + 1));
      const bool step = round % 4 == 3;
      for (std::size_t i = 0; i < streams.size(); ++i)
        offsets.push_back(offsets.back() +
                          (step ? 1 : static_cast<Index>(random.below(13) * random.below(4))));
      const Index N = offsets.back();
      Matrix<TypeParam> now(C, N), out(C, N);
      for (std::size_t i = 0; i < streams.size(); ++i) {
        const Index s = streams[i], count = offsets[i + 1] - offsets[i];
        now.middleCols(offsets[i], count) = x[static_cast<std::size_t>(s)].middleCols(state.count(s), count);
      }
      const auto before = state;
      if (step) {
        attention.step(now, streams, state, out, workspace);
      } else {
        attention.extend(now, offsets, streams, state, out, workspace);
      }
      for (Index s = 0; s < S; ++s) {
        const auto i =
            static_cast<std::size_t>(std::find(streams.begin(), streams.end(), s) - streams.begin());
        if (i == streams.size()) {
          ASSERT_EQ(state.count(s), before.count(s));
          ASSERT_TRUE(expect_same_stream(state, s, before, s, "not named"));
        } else {
          const Index count = offsets[i + 1] - offsets[i];
          ASSERT_EQ(state.count(s), before.count(s) + count);
          y[static_cast<std::size_t>(s)].middleCols(before.count(s), count) =
              out.middleCols(offsets[i], count);
        }
      }
      if (round % 10 == 9) {
        const Index s = round / 10;
        state.reset(s);
        x[static_cast<std::size_t>(s)] = random_matrix<TypeParam>(C, kMost, random);
      }
    }
    for (Index s = 0; s < S; ++s) {
      const Index T = state.count(s);
      const Matrix<TypeParam> own = x[static_cast<std::size_t>(s)].leftCols(T);
      Matrix<TypeParam> expected(C, T);
      attention.forward(own, expected, workspace);
      expect_close_to_scale(Matrix<TypeParam>(y[static_cast<std::size_t>(s)].leftCols(T)), expected,
                            Tolerance<TypeParam>::mode, "stream " + std::to_string(s));
    }
    EXPECT_GE(state.count(3), 64);  // enough of them for tiles of keys
  }
}

// Together longer than two passes of extend (2048 tokens each), whose bounds lie inside of segments.
TYPED_TEST(AttentionModes, LongChosenStreamsAreWorkedThroughInPieces) {
  for (const Form& form : kForms) {
    SCOPED_TRACE(testing::Message() << form);
    const Index C = 2;
    const auto attention = make_attention<TypeParam>(C, 1, form);
    const std::vector<Index> offsets = {0, 1500, 1500, 1503, 4400}, streams = {2, 1, 3, 0};
    Random random(18);
    const auto x = random_matrix<TypeParam>(C, 4400, random);
    Matrix<TypeParam> y(C, 4400), expected(C, 4400);
    Workspace workspace;
    auto state = attention.make_state({.streams = 4});
    attention.extend(x, offsets, streams, state, y, workspace);
    attention.packed(x, offsets, expected, workspace);
    expect_close_to_scale(y, expected, Tolerance<TypeParam>::mode, "y");
    EXPECT_EQ(state.count(2), 1500);
    EXPECT_EQ(state.count(1), 0);
    EXPECT_EQ(state.count(3), 3);
    EXPECT_EQ(state.count(0), 2897);
  }
}

TYPED_TEST(AttentionModes, NaNInOneStreamChangesNoBitOfTheOthers) {
  for (const Form& form : kForms) {
    SCOPED_TRACE(testing::Message() << form);
    const Index C = 12;
    const auto attention = make_attention<TypeParam>(C, 2, form);
    const std::vector<Index> offsets = {0, 37, 50, 120}, streams = {0, 2, 1}, last = {2, 0, 1};
    Random random(19);
    auto x = random_matrix<TypeParam>(C, 120, random);
    auto next = random_matrix<TypeParam>(C, 3, random);
    Workspace workspace;
    const auto run = [&](auto& state, auto& y, auto& stepped) {
      attention.extend(x, offsets, streams, state, y, workspace);
      attention.step(next, last, state, stepped, workspace);
    };
    auto clean = attention.make_state({.streams = 3}), bad = clean;
    Matrix<TypeParam> y(C, 120), poisoned(C, 120), stepped(C, 3), stepped_poisoned(C, 3);
    run(clean, y, stepped);
    x.middleCols(37, 13).setConstant(std::numeric_limits<TypeParam>::quiet_NaN());
    run(bad, poisoned, stepped_poisoned);
    expect_same_bits(Matrix<TypeParam>(poisoned.leftCols(37)), Matrix<TypeParam>(y.leftCols(37)), "stream 0");
    expect_same_bits(Matrix<TypeParam>(poisoned.rightCols(70)), Matrix<TypeParam>(y.rightCols(70)),
                     "stream 1");
    expect_same_bits(Matrix<TypeParam>(stepped_poisoned.rightCols(2)),
                     Matrix<TypeParam>(stepped.rightCols(2)), "step");
    expect_same_stream(bad, 0, clean, 0, "state of stream 0");
    expect_same_stream(bad, 1, clean, 1, "state of stream 1");
    EXPECT_TRUE(stepped_poisoned.col(0).array().isNaN().all());
  }
}

}  // namespace
}  // namespace hsm::test::modes_test
