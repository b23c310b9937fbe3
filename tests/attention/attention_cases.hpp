// SPDX-License-Identifier: MIT
//
// What the attention tests share: layers with weights that make a difference, random activations, the oracle
// of a whole sequence, and what a state holds.
#pragma once

#include <gtest/gtest.h>

#include <hsm/core/random.hpp>
#include <ostream>
#include <span>
#include <string>
#include <vector>

#include "attention/attention_engine.hpp"
#include "layer/layer_cases.hpp"
#include "reference/attention_reference.hpp"
#include "support/matchers.hpp"
#include "support/message_of.hpp"
#include "support/scalars.hpp"
#include "support/tolerance.hpp"

namespace hsm::test {

/// What a layer is besides its sizes: the base of rotary positions, the window, and blocks with how many are chosen; 0 for
/// none.
struct Form {
  Index rotary = 0, window = 0, block = 0, top = 0;
};

inline std::ostream& operator<<(std::ostream& out, const Form& form) {
  return out << "rotary " << form.rotary << " window " << form.window << " block " << form.block << " top "
             << form.top;
}

/// Without and with rotary positions, without and with a window, and of blocks.
inline constexpr Form kForms[] = {{0, 0}, {10000, 0}, {0, 5}, {10000, 33}, {0, 0, 5, 2}, {10000, 0, 16, 3}};

/// Weights three times the usual ones, so that the softmax is far from flat, and biases that are not 0.
template <class Scalar>
CausalAttention<Scalar> make_attention(Index C, Index H, const Form& form = {}) {
  Random random(5);
  Attention<Scalar> parameters(
      C, H, random, {.rotary = form.rotary, .window = form.window, .block = form.block, .top = form.top});
  parameters.project.weight *= Scalar(3);
  for (Index i = 0; i < 3 * C; ++i) parameters.project.bias[i] = static_cast<Scalar>(random.normal(0.3));
  for (Index i = 0; i < C; ++i) parameters.output.bias[i] = static_cast<Scalar>(random.normal(0.3));
  return CausalAttention<Scalar>(parameters);
}

template <class Derived>
std::vector<double> to_double(const Eigen::MatrixBase<Derived>& m) {
  std::vector<double> values;
  for (Index j = 0; j < m.cols(); ++j) {
    for (Index i = 0; i < m.rows(); ++i) values.push_back(static_cast<double>(m(i, j)));
  }
  return values;
}

template <class Scalar>
std::vector<double> to_double(const std::vector<Scalar>& values) {
  return {values.begin(), values.end()};
}

template <class Scalar>
std::vector<double> reference_forward(const CausalAttention<Scalar>& attention, const Matrix<Scalar>& x) {
  return AttentionReference(attention.parameters()).forward(to_double(x));
}

/// The keys and values that stream `stream` holds, all heads after one another.
template <class Scalar>
std::vector<Scalar> cache_of(const AttentionState<Scalar>& state, Index stream) {
  std::vector<Scalar> all;
  state.visit([&](Index s, CachePart, Index, std::span<const Scalar> values) {
    if (s == stream) all.insert(all.end(), values.begin(), values.end());
  });
  return all;
}

/// The same for the tokens first ... first + count - 1 of the stream, 0 where it does not hold them.
template <class Scalar>
std::vector<double> cache_of(const AttentionState<Scalar>& state, Index stream, Index first, Index count) {
  std::vector<double> all;
  const Index D = state.channels() / state.heads();
  state.visit([&](Index s, CachePart, Index, std::span<const Scalar> values) {
    for (Index t = first; s == stream && t < first + count; ++t) {
      for (Index d = 0; d < D; ++d) {
        const Index i = (t - state.first(s)) * D + d;
        const bool there = t >= state.first(s) && t < state.count(s);
        all.push_back(there ? static_cast<double>(values[static_cast<std::size_t>(i)]) : 0);
      }
    }
  });
  return all;
}

/// Stream a of `state` and stream b of `other` hold the same bits.
template <class Scalar>
bool expect_same_stream(const AttentionState<Scalar>& state, Index a, const AttentionState<Scalar>& other,
                        Index b, const std::string& label, const char* file = __builtin_FILE(),
                        int line = __builtin_LINE()) {
  return expect_same_bits(cache_of(state, a), cache_of(other, b), label, file, line);
}

/// Both hold the same streams, bit for bit.
template <class Scalar>
bool expect_same_state(const AttentionState<Scalar>& state, const AttentionState<Scalar>& other,
                       const std::string& label, const char* file = __builtin_FILE(),
                       int line = __builtin_LINE()) {
  bool same = state.streams() == other.streams();
  EXPECT_TRUE(same) << label << ", " << file << ":" << line;
  for (Index s = 0; same && s < state.streams(); ++s) {
    same = state.count(s) == other.count(s) && state.held(s) == other.held(s);
    EXPECT_TRUE(same) << label << ", stream " << s << ", " << file << ":" << line;
    same = same && expect_same_stream(state, s, other, s, label, file, line);
  }
  return same;
}

}  // namespace hsm::test
