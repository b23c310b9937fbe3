// SPDX-License-Identifier: MIT
//
// A layer as the checks see it: calls on tokens in double, whatever it computes in and of whatever type it is. The
// checks are so compiled once in a program, and for each layer the small class of testing/tested_mixer.hpp.
#pragma once

#include <algorithm>
#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include <hsm/core/types.hpp>

namespace hsm::inline HSM_ABI::detail {

/// B x T tokens of C channels that own their values.
struct TokenValues {
  Index batch = 0, time = 0, channels = 0;
  std::vector<double> values;

  TokenValues() = default;
  TokenValues(Index B, Index T, Index C)
      : batch(B), time(T), channels(C), values(static_cast<std::size_t>(B * T * C)) {}

  Index count() const { return batch * time; }
  double* at(Index b, Index t) { return values.data() + (b * time + t) * channels; }
  const double* at(Index b, Index t) const { return values.data() + (b * time + t) * channels; }

  /// Tokens first ... first + n - 1 of every sequence.
  TokenValues part(Index first, Index n) const {
    TokenValues tokens(batch, n, channels);
    for (Index b = 0; b < batch; ++b) std::copy_n(at(b, first), n * channels, tokens.at(b, 0));
    return tokens;
  }
  /// Writes such a part back.
  void put(const TokenValues& tokens, Index first) {
    for (Index b = 0; b < batch; ++b) std::copy_n(tokens.at(b, 0), tokens.time * channels, at(b, first));
  }
  /// Sequence b alone.
  TokenValues sequence(Index b) const {
    TokenValues tokens(1, time, channels);
    std::copy_n(at(b, 0), time * channels, tokens.at(0, 0));
    return tokens;
  }
  /// The same tokens as one sequence [1, B T, C].
  TokenValues joined() const {
    TokenValues tokens = *this;
    tokens.batch = 1;
    tokens.time = count();
    return tokens;
  }
  /// Tokens first ... first + n - 1 of sequence b, all of one value.
  void fill(Index b, Index first, Index n, double value) { std::fill_n(at(b, first), n * channels, value); }
};

/// A state of the layer.
class TestedState {
 public:
  virtual ~TestedState() = default;
  virtual std::unique_ptr<TestedState> copy() const = 0;
  virtual Index count(Index stream) const = 0;
  virtual bool can_rewind(Index stream, Index k) const = 0;
  virtual void rewind(Index stream, Index k) = 0;
  virtual void reset(Index stream) = 0;
  virtual void reset() = 0;
  virtual void copy_stream(Index from, Index to) = 0;
  virtual void take_back(Index stream, Index count) = 0;
  virtual void spoil(Index stream) = 0;
  virtual bool is_whole(Index stream) const = 0;
};

/// What a forward leaves for backward.
class TestedRecord {
 public:
  virtual ~TestedRecord() = default;
  virtual bool is_nothing() const = 0;
};

enum class TestedMode { kForward, kPacked, kStep, kExtend, kFill };

/// One call of a mode; see layer/token_mixer.hpp.
struct TestedCall {
  TestedMode mode;
  const TokenValues& x;
  TestedState* state = nullptr;
  TestedRecord* record = nullptr;
  std::span<const Index> offsets = {};  ///< of packed, and of chosen streams
  std::span<const Index> streams = {};  ///< the chosen ones; none: all of the state
};

/// The gradient of each tensor, in the order of visit.
using TensorGradients = std::vector<std::vector<double>>;

/// One tensor of a layer.
struct TestedTensor {
  std::string name;
  Index size = 0;
};

/// A layer, run in every mode.
class TestedLayer {
 public:
  virtual ~TestedLayer() = default;

  virtual Index channels() const = 0;
  /// Of its scalar.
  virtual double epsilon() const = 0;
  /// The value nearest to `value` that its scalar has.
  virtual double rounded(double value) const = 0;
  virtual const std::vector<TestedTensor>& tensors() const = 0;
  virtual double value(std::size_t tensor, Index i) const = 0;
  virtual void set_value(std::size_t tensor, Index i, double value) = 0;

  virtual std::unique_ptr<TestedState> make_state(Index streams, Index spare) const = 0;
  virtual std::unique_ptr<TestedRecord> make_record() const = 0;
  /// y, which comes to the layer as NaN; nothing for kFill.
  virtual TokenValues run(const TestedCall& call) = 0;
  /// Whether an executor that throws after so many tasks has ended the call; always false without exceptions.
  virtual bool run_interrupted(const TestedCall& call, Index tasks) = 0;
  /// dx, which comes to the layer as NaN; adds to gradients.
  virtual TokenValues backward(const TokenValues& x, const TestedRecord& record, const TokenValues& dy,
                               TensorGradients& gradients, TestedState* state_gradient = nullptr) = 0;

  TokenValues forward(const TokenValues& x, TestedRecord* record = nullptr) {
    return run({.mode = TestedMode::kForward, .x = x, .record = record});
  }
  TensorGradients zero_gradients() const {
    TensorGradients zeros;
    for (const TestedTensor& tensor : tensors()) zeros.emplace_back(static_cast<std::size_t>(tensor.size));
    return zeros;
  }
};

}  // namespace hsm::inline HSM_ABI::detail
