// SPDX-License-Identifier: MIT
//
// Y = W X of few columns, in float: W [out, in] is read once, row by row as it lies, and not copied first, as product
// libraries do: that takes longer than so few products. A *Row* says how a row is stored:
//
//   Row(w, r)       row r
//   read(i)         what is stored of the values from i on, as many as a register holds
//   kScaled         whether they are worth scale(i) times that, the same for the 32 of a step
//   at(i)           what value i is worth
//   kRows           rows of a tile with one column
//   kFetches        whether the values of a later page are asked for (detail::prefetch)
//
// 2 out in n flop. Sizes are the caller's to check (core/product.hpp, core/narrow_product.hpp): `in` of W and X agree.
// Every element of Y is summed in the same order whatever n, its tile and the block it is computed in: it has the bits of
// its column alone.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <type_traits>
#include <utility>

#include <hsm/core/floats.hpp>
#include <hsm/core/types.hpp>

namespace hsm::inline HSM_ABI::detail {

/// So many values are multiplied in one step.
inline constexpr Index kGroup = 32;
static_assert(kGroup % Floats::kSize == 0);

/// A row of floats.
struct FloatRow {
  static constexpr bool kScaled = false, kFetches = false;
  static constexpr int kRows = 4;
  const float* values;

  FloatRow(const Weights<float>& matrix, Index row) : values(matrix.data() + row * matrix.cols()) {}
  HSM_INLINE Floats read(Index i) const { return Floats::read(values + i); }
  float at(Index i) const { return values[i]; }
};

/// y of kRows rows from `row` on and kColumns columns.
template <class Row, int kRows, int kColumns, class Matrix>
void multiply_tile(const Matrix& w, Index row, const float* x, Index x_stride, float* y, Index y_stride) {
  const auto rows = [&]<std::size_t... kAt>(std::index_sequence<kAt...>) {
    return std::array<Row, kRows>{Row(w, row + static_cast<Index>(kAt))...};
  }
  (std::make_index_sequence<kRows>{});
  Floats sums[kRows][kColumns];
  const Index depth = w.cols(), whole = depth / kGroup * kGroup;
  for (Index group = 0; group < whole; group += kGroup) {
    if constexpr (Row::kFetches && kRows > 1) {
      HSM_WRITTEN_OUT
      for (std::size_t r = 0; r < kRows; ++r) prefetch(rows[r].values + group);
    }
    Floats of_group[kRows][kColumns];
    auto& to = Row::kScaled ? of_group : sums;
    HSM_WRITTEN_OUT
    for (Index i = 0; i < kGroup / Floats::kSize; ++i) {
      const Index place = group + i * Floats::kSize;
      Floats part[kColumns];
      HSM_WRITTEN_OUT
      for (int c = 0; c < kColumns; ++c) part[c] = Floats::read(x + c * x_stride + place);
      HSM_WRITTEN_OUT
      for (std::size_t r = 0; r < kRows; ++r) {
        const Floats weights = rows[r].read(place);
        HSM_WRITTEN_OUT
        for (int c = 0; c < kColumns; ++c) to[r][c].add_product(weights, part[c]);
      }
    }
    if constexpr (Row::kScaled) {
      HSM_WRITTEN_OUT
      for (std::size_t r = 0; r < kRows; ++r) {
        const Floats scale = rows[r].scale(group);
        HSM_WRITTEN_OUT
        for (int c = 0; c < kColumns; ++c) sums[r][c].add_product(of_group[r][c], scale);
      }
    }
  }
  HSM_WRITTEN_OUT
  for (std::size_t r = 0; r < kRows; ++r) {
    HSM_WRITTEN_OUT
    for (int c = 0; c < kColumns; ++c) {
      float sum = sums[r][c].sum();
      for (Index i = whole; i < depth; ++i) sum = multiply_add(rows[r].at(i), x[c * x_stride + i], sum);
      y[c * y_stride + static_cast<Index>(r)] = sum;
    }
  }
}

/// y of rows `row` to row + rows for kColumns columns.
template <class Row, int kColumns, class Matrix>
HSM_NOINLINE void multiply_columns(const Matrix& w, Index row, const float* x, Index x_stride, float* y,
                                   Index y_stride, Index rows) {
  // Registers for the sums, beside the parts of x: half of them where weights are widened and scaled.
  constexpr int kSums =
      std::is_same_v<Row, FloatRow> ? Floats::kRegisters - kColumns : Floats::kRegisters / 2;
  constexpr int kRows = kColumns == 1 ? Row::kRows : (std::min)(8, kSums / kColumns);
  Index r = 0;
  for (; r + kRows <= rows; r += kRows)
    multiply_tile<Row, kRows, kColumns>(w, row + r, x, x_stride, y + r, y_stride);
  for (; r < rows; ++r) multiply_tile<Row, 1, kColumns>(w, row + r, x, x_stride, y + r, y_stride);
}

/// A block of Y: the rows of W from `row` on, by four columns and the rest.
template <class Row, class Matrix>
void multiply_few_columns(const Matrix& w, Index row, const ConstColumns<float>& x, Columns<float>& y) {
  constexpr Index kStrip =
      Index{1} << 15;  // values, which stay in the second-level cache from column to column
  const Index most = std::clamp<Index>(kStrip / std::max<Index>(1, w.cols()), 24, 512);
  for (Index r = 0; r < y.rows(); r += most) {
    const Index rows = (std::min)(most, y.rows() - r);
    for (Index c = 0; c < y.cols(); c += 4) {
      const auto run = [&](auto count) {
        multiply_columns<Row, decltype(count)::value>(w, row + r, x.data() + c * x.outerStride(),
                                                      x.outerStride(), y.data() + r + c * y.outerStride(),
                                                      y.outerStride(), rows);
      };
      switch ((std::min)(Index{4}, y.cols() - c)) {
        case 1:
          run(std::integral_constant<int, 1>{});
          break;
        case 2:
          run(std::integral_constant<int, 2>{});
          break;
        case 3:
          run(std::integral_constant<int, 3>{});
          break;
        default:
          run(std::integral_constant<int, 4>{});
      }
    }
  }
}

}  // namespace hsm::inline HSM_ABI::detail
