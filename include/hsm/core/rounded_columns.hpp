// SPDX-License-Identifier: MIT
//
// Columns of floats rounded to 16 bits, by which weights of 8 bits are multiplied as whole numbers (core/narrow_row.hpp):
// each 32 values x one after another are q scale, q whole numbers from -32767 to 32767, scale the largest |x| of them /
// 32767, at least 2^-90 / 32767: off by at most scale / 2. Where one is not finite the scale is NaN, and so is what is
// multiplied by them.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>

#include <hsm/core/bit_cast.hpp>
#include <hsm/core/few_columns.hpp>
#include <hsm/core/floats.hpp>
#include <hsm/core/types.hpp>

namespace hsm::inline HSM_ABI::detail {

/// Values that there is room for, of all columns. On the stack: a product allocates nothing.
inline constexpr Index kRoundedValues = Index{1} << 14;

/// kColumns columns of at most kRoundedValues / kColumns values, in whole groups: what is missing from the last is 0.
template <int kColumns>
class RoundedColumns {
 public:
  RoundedColumns(const float* x, Index stride, Index depth) : groups_((depth + kGroup - 1) / kGroup) {
    for (int c = 0; c < kColumns; ++c) {
      for (Index g = 0; g < groups_; ++g) {
        const float* from = x + c * stride + g * kGroup;
        const Index count = (std::min)(kGroup, depth - g * kGroup);
        float padded[kGroup] = {};
        if (count < kGroup) from = std::copy_n(from, count, padded) - count;
        scales_[c * groups_ + g] = round_group(from, values_ + (c * groups_ + g) * kGroup);
      }
    }
  }

  /// The whole numbers from i on.
  HSM_INLINE const std::int16_t* values(int column, Index i) const {
    return values_ + column * groups_ * kGroup + i;
  }
  /// What one of them is worth.
  HSM_INLINE float scale(int column, Index i) const { return scales_[column * groups_ + i / kGroup]; }

 private:
  /// The scale.
  static float round_group(const float* from, std::int16_t* to) {
    constexpr float kLeast = 0x1p-90F;
    std::uint32_t bits = 0;  // of the largest magnitude, or of what is not finite
    for (Index i = 0; i < kGroup; ++i)
      bits = (std::max)(bits, bit_cast<std::uint32_t>(from[i]) & 0x7FFFFFFFu);
    if (bits >= 0x7F800000u) {
      std::fill_n(to, kGroup, std::int16_t{0});
      return std::numeric_limits<float>::quiet_NaN();
    }
    const float largest = (std::max)(bit_cast<float>(bits), kLeast);
    const Floats factor = Floats::of(32767.0F / largest);
    for (Index i = 0; i < kGroup; i += Floats::kSize)
      Floats::read(from + i).times(factor).write_whole(to + i);
    return largest / 32767.0F;
  }

  Index groups_;
  float scales_[kRoundedValues / kGroup];
  std::int16_t values_[kRoundedValues];
};

}  // namespace hsm::inline HSM_ABI::detail
