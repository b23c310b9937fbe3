// SPDX-License-Identifier: MIT
//
// Batches cut from a text of token ids. A window of T tokens and its targets are T + 1 tokens in a row:
//
//   tokens [b,t] = text[start_b + t]        targets[b,t] = text[start_b + t + 1]        both [B,T]
//
//   TokenWindows        random starts, uniform over all places; for training
//   ValidationWindows   one window after another: every token but the first is predicted exactly once
//
// The text is not owned and must outlive both. Cost O(B T) per batch, no allocation.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>

#include <hsm/core/check.hpp>
#include <hsm/core/random.hpp>
#include <hsm/core/types.hpp>

namespace hsm::inline HSM_ABI {

namespace detail {

/// Throws unless `values` holds batch * time values; no product that could overflow.
inline void check_window_buffer(const char* who, const char* what, std::size_t values, Index batch,
                                Index time) {
  const auto rows = static_cast<std::size_t>(batch), columns = static_cast<std::size_t>(time);
  if (values % columns != 0 || values / columns != rows) {
    fail(who, what, "a buffer of " + std::to_string(batch) + " x " + std::to_string(time) + " values",
         "one of " + std::to_string(values));
  }
}

}  // namespace detail

/// Random windows of a text, reproducible from the generator's state.
class TokenWindows {
 public:
  /// Windows of T = `time` tokens. Throws std::invalid_argument for time < 1 or a text of fewer than T + 1
  /// tokens.
  TokenWindows(std::span<const std::int32_t> text, Index time, Random random)
      : text_(text), time_(time), random_(random) {
    detail::check_at_least("TokenWindows", "time", time, 1);
    if (text.size() <= static_cast<std::size_t>(time)) {
      detail::fail("TokenWindows", "text",
                   "longer than a window of " + detail::counted(time, "token") + " and 1 target",
                   detail::counted(text.size(), "token"));
    }
  }

  /// T.
  Index time() const { return time_; }
  /// How many different windows there are.
  Index count() const { return static_cast<Index>(text_.size()) - time_; }
  /// The generator as it stands, to save and go on from.
  const Random& random() const { return random_; }

  /// Draws B = `batch` windows into tokens [B,T] and targets [B,T]. Throws std::invalid_argument, with
  /// nothing drawn, for batch < 1 or buffers of another size.
  void fill(std::span<std::int32_t> tokens, std::span<std::int32_t> targets, Index batch) {
    detail::check_at_least("TokenWindows::fill", "batch", batch, 1);
    detail::check_window_buffer("TokenWindows::fill", "tokens", tokens.size(), batch, time_);
    detail::check_window_buffer("TokenWindows::fill", "targets", targets.size(), batch, time_);
    for (Index b = 0; b < batch; ++b) {
      const auto start = static_cast<Index>(random_.below(static_cast<std::uint64_t>(count())));
      const auto window = text_.begin() + start;
      std::copy(window, window + time_, tokens.begin() + b * time_);
      std::copy(window + 1, window + 1 + time_, targets.begin() + b * time_);
    }
  }

 private:
  std::span<const std::int32_t> text_;
  Index time_;
  Random random_;
};

/// A whole text as windows one after another, always the same. Window w holds the tokens w T ... w T + T - 1;
/// the last one may be shorter and is filled up with token 0 and target -1, which no loss counts.
class ValidationWindows {
 public:
  /// Windows of T = `time` tokens. Throws std::invalid_argument for time < 1 or a text of fewer than 2
  /// tokens.
  ValidationWindows(std::span<const std::int32_t> text, Index time) : text_(text), time_(time) {
    detail::check_at_least("ValidationWindows", "time", time, 1);
    if (text.size() < 2) {
      detail::fail("ValidationWindows", "text", "at least 2 tokens, one to read and one to predict",
                   detail::counted(text.size(), "token"));
    }
  }

  /// T.
  Index time() const { return time_; }
  /// Predicted tokens: all but the first.
  Index predictions() const { return static_cast<Index>(text_.size()) - 1; }
  /// The number of windows.
  Index count() const { return (predictions() - 1) / time_ + 1; }

  /// Writes the windows first ... first + B - 1, B = `batch`, into tokens [B,T] and targets [B,T]. Throws
  /// std::out_of_range for windows that do not exist and std::invalid_argument for buffers of another size.
  void fill(std::span<std::int32_t> tokens, std::span<std::int32_t> targets, Index first, Index batch) const {
    detail::check_at_least("ValidationWindows::fill", "batch", batch, 1);
    if (first < 0 || first > count() || batch > count() - first) {
      detail::raise<std::out_of_range>("ValidationWindows::fill: windows must be within [0, " +
                                       std::to_string(count()) + "), got " + std::to_string(batch) +
                                       " from " + std::to_string(first));
    }
    detail::check_window_buffer("ValidationWindows::fill", "tokens", tokens.size(), batch, time_);
    detail::check_window_buffer("ValidationWindows::fill", "targets", targets.size(), batch, time_);
    const Index start = first * time_;
    const Index size = (std::min)(batch * time_, predictions() - start);
    const auto window = text_.begin() + start;
    std::fill(std::copy(window, window + size, tokens.begin()), tokens.end(), 0);
    std::fill(std::copy(window + 1, window + 1 + size, targets.begin()), targets.end(), -1);
  }

 private:
  std::span<const std::int32_t> text_;
  Index time_;
};

}  // namespace hsm::inline HSM_ABI
