// SPDX-License-Identifier: MIT
//
// What check_policy and check_layer take and give.
#pragma once

#include <cstdint>
#include <string>
#include <utility>

#include <hsm/core/types.hpp>

namespace hsm::inline HSM_ABI {

/// What a check has found: nothing, or the first thing that is wrong.
class [[nodiscard]] CheckResult {
 public:
  /// Nothing is wrong.
  CheckResult() = default;
  /// What is wrong; an empty sentence says that nothing is.
  explicit CheckResult(std::string sentence) : sentence_(std::move(sentence)) {}

  /// Whether nothing was found.
  bool ok() const { return sentence_.empty(); }
  /// The same.
  explicit operator bool() const { return ok(); }
  /// What is wrong and where, in one sentence; empty where nothing was found.
  std::string what() const { return sentence_; }

 private:
  std::string sentence_;
};

/// How a check is made. The same options give the same check, to the bit.
struct CheckOptions {
  /// T, the tokens of each of the three sequences that are tried. 0: at least 16, and as many as the distances of a
  /// policy, or what a layer says that it reads (footprint; of a window or blocks up to 500) and that its state depends on
  /// (state_reach), ask for. A layer that looks farther back wants more.
  Index tokens = 0;
  /// Every value of a tensor is moved by normal(noise) first, since a bias of 0 or heads that are all alike hide
  /// what is wrong. Where results are not finite then, or the layer refuses such values, they stay as they are given.
  double noise = 0.1;
  /// Of all that is random.
  std::uint64_t seed = 1;
};

}  // namespace hsm::inline HSM_ABI
