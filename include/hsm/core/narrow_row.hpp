// SPDX-License-Identifier: MIT
//
// A row of a matrix in fewer bytes (core/narrow_matrix.hpp), as products with few columns read it (core/few_columns.hpp).
#pragma once

#include <cstdint>

#include <hsm/core/few_columns.hpp>
#include <hsm/core/narrow_matrix.hpp>

namespace hsm::inline HSM_ABI::detail {

static_assert(kScaleGroup == kGroup, "hsm: the values of a step share a scale");

/// A row of bf16. read(i): what is stored from its place i on.
struct Bfloat16Row {
  static constexpr bool kScaled = false, kFetches = true;
  static constexpr int kRows = 8;
  const std::uint16_t* values;

  Bfloat16Row(const NarrowMatrix& matrix, Index row)
      : values(matrix.bfloat16s().data() + row * matrix.cols()) {}
  HSM_INLINE Floats read(Index i) const { return Floats::widen(values + i); }
  float at(Index i) const { return bfloat16_to_float(values[i]); }
};

/// A row of int8. read(i): what is stored from its place i on, which is worth scale(i) times that.
struct Int8Row {
  static constexpr bool kScaled = true, kFetches = true;
  static constexpr int kRows = 8;
  const std::int8_t* values;
  const float* scales;

  Int8Row(const NarrowMatrix& matrix, Index row)
      : values(matrix.int8s().data() + row * matrix.cols()),
        scales(matrix.scales().data() + row * matrix.groups()) {}
  HSM_INLINE Floats read(Index i) const { return Floats::widen(values + i); }
  HSM_INLINE Floats scale(Index i) const { return Floats::of(scales[i / kScaleGroup]); }
  float at(Index i) const { return static_cast<float>(values[i]) * scales[i / kScaleGroup]; }
};

}  // namespace hsm::inline HSM_ABI::detail
