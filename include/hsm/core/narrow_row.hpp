// SPDX-License-Identifier: MIT
//
// A row of a matrix in fewer bytes (core/narrow_matrix.hpp), as products with few columns read it (core/few_columns.hpp).
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

#include <hsm/core/few_columns.hpp>
#include <hsm/core/narrow_matrix.hpp>
#include <hsm/core/rounded_columns.hpp>

namespace hsm::inline HSM_ABI::detail {

static_assert(kScaleGroup == kGroup, "hsm: the values of a step share a scale");

/// A row of bf16.
struct Bfloat16Row : WideRow {
  static constexpr bool kApart = true;
  static constexpr int rows(int columns) {
    return columns == 1 ? 8 : (std::min)(8, Floats::kRegisters / 2 / columns);
  }
  const std::uint16_t* values;

  Bfloat16Row(const NarrowMatrix& matrix, Index row, Index i)
      : values(matrix.bfloat16s().data() + row * matrix.cols() + i) {}
  HSM_INLINE Floats read(Index i) const { return Floats::widen(values + i); }
  float at(Index i) const { return bfloat16_to_float(values[i]); }
};

/// A row of int8, which is multiplied by columns rounded to 16 bits: the 32 products of a group are summed as whole
/// numbers, exactly. read(i): what is stored from value i of the row on, which is worth scale(i) times that; i begins a
/// group.
struct Int8Row {
  template <int kColumns>
  using X = RoundedColumns<kColumns>;
  static constexpr Index kMost = kRoundedValues;
  static constexpr Index columns(Index depth) {
    return std::clamp<Index>(kRoundedValues / std::max<Index>(1, depth + kGroup - 1), 1, 4);
  }
  static constexpr bool kApart = true;
  static constexpr int rows(int) { return 2; }
  const std::int8_t* values;
  const float* scales;

  Int8Row(const NarrowMatrix& matrix, Index row, Index i)
      : values(matrix.int8s().data() + row * matrix.cols() + i),
        scales(matrix.scales().data() + row * matrix.groups() + i / kScaleGroup) {}
  HSM_INLINE Floats read(Index i) const { return Floats::widen(values + i); }
  HSM_INLINE Floats scale(Index i) const { return Floats::of(scales[i / kScaleGroup]); }
  float at(Index i) const { return static_cast<float>(values[i]) * scales[i / kScaleGroup]; }

  template <std::size_t kRows, int kColumns>
  static HSM_INLINE void add_group(const std::array<Int8Row, kRows>& rows, const RoundedColumns<kColumns>& x,
                                   Index i, Floats (&sums)[kRows][kColumns]) {
    HSM_WRITTEN_OUT
    for (std::size_t r = 0; r < kRows; ++r) {
      HSM_WRITTEN_OUT
      for (int c = 0; c < kColumns; ++c) rows[r].add_products(rows[r].values + i, x, c, i, sums[r][c]);
    }
  }

  template <int kColumns>
  static float finish(const Int8Row& row, const RoundedColumns<kColumns>& x, int column, Index i, Index depth,
                      Floats sums) {
    if (i < depth) {
      std::int8_t padded[kGroup] = {};
      std::copy_n(row.values + i, depth - i, padded);
      row.add_products(padded, x, column, i, sums);
    }
    return sums.sum();
  }

 private:
  template <int kColumns>
  HSM_INLINE void add_products(const std::int8_t* own, const RoundedColumns<kColumns>& x, int column, Index i,
                               Floats& sums) const {
    const Floats products = Floats::dot(own, x.values(column, i));
    sums.add_product(products.times(Floats::of(x.scale(column, i))), scale(i));
  }
};

}  // namespace hsm::inline HSM_ABI::detail
