// SPDX-License-Identifier: MIT
//
// Y = W X of few columns, in float: W [out, in] is read once, row by row as it lies, and not copied first, as product
// libraries do: that takes longer than so few products. A *Row* says how a row is stored and multiplied:
//
//   Row(w, r, i)        row r from value i on
//   values              where that is
//   X<kColumns>         the columns as it is multiplied by them: X(x, stride, depth)
//   kMost               values of a column that an X takes at most
//   columns(depth)      columns of that depth that an X takes at most
//   kApart              whether the rows of a tile lie far from each other, and later values are asked for
//                       (detail::prefetch). In fewer bytes they are too short one after another: one thread of a Zen 3
//                       reads 18 to 20 GB/s of int8 from two places far apart, from one 14 to 17, from 8 rows 6 to 8
//   rows(columns)       rows of a tile
//   add_group(rows, x, i, sums)   adds the products of kGroup values from i on
//   finish(row, x, column, i, depth, sums)   the sum of sums and of the products of the values from i on, fewer than kGroup
//
// 2 out in n flop. Sizes are the caller's to check (core/product.hpp, core/narrow_product.hpp): `in` of W and X agree.
// Every element of Y is summed in the same order whatever n, its tile and the block it is computed in: it has the bits of
// its column alone.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <limits>
#include <type_traits>
#include <utility>

#include <hsm/core/floats.hpp>
#include <hsm/core/types.hpp>

namespace hsm::inline HSM_ABI::detail {

/// So many values are multiplied in one step.
inline constexpr Index kGroup = 32;
static_assert(kGroup % Floats::kSize == 0);

/// Columns as they are.
template <int kColumns>
struct FloatColumns {
  const float* values;
  Index stride;

  FloatColumns(const float* x, Index x_stride, Index) : values(x), stride(x_stride) {}
  HSM_INLINE const float* at(int column, Index i) const { return values + column * stride + i; }
};

/// What rows have in common that are multiplied as floats: read(i), as many values from i on as a register holds, and at(i).
struct WideRow {
  template <int kColumns>
  using X = FloatColumns<kColumns>;
  static constexpr Index kMost = (std::numeric_limits<Index>::max)();
  static constexpr Index columns(Index) { return 4; }

  template <class Row, std::size_t kRows, int kColumns>
  static HSM_INLINE void add_group(const std::array<Row, kRows>& rows, const FloatColumns<kColumns>& x,
                                   Index group, Floats (&sums)[kRows][kColumns]) {
    HSM_WRITTEN_OUT
    for (Index i = group; i < group + kGroup; i += Floats::kSize) {
      Floats part[kColumns];
      HSM_WRITTEN_OUT
      for (int c = 0; c < kColumns; ++c) part[c] = Floats::read(x.at(c, i));
      HSM_WRITTEN_OUT
      for (std::size_t r = 0; r < kRows; ++r) {
        const Floats weights = rows[r].read(i);
        HSM_WRITTEN_OUT
        for (int c = 0; c < kColumns; ++c) sums[r][c].add_product(weights, part[c]);
      }
    }
  }

  template <class Row, int kColumns>
  static float finish(const Row& row, const FloatColumns<kColumns>& x, int column, Index i, Index depth,
                      const Floats& sums) {
    float sum = sums.sum();
    for (; i < depth; ++i) sum = multiply_add(row.at(i), *x.at(column, i), sum);
    return sum;
  }
};

/// A row of floats.
struct FloatRow : WideRow {
  static constexpr bool kApart = false;
  static constexpr int rows(int columns) {
    return columns == 1 ? 4 : (std::min)(8, (Floats::kRegisters - columns) / columns);
  }
  const float* values;

  FloatRow(const Weights<float>& matrix, Index row, Index i)
      : values(matrix.data() + row * matrix.cols() + i) {}
  HSM_INLINE Floats read(Index i) const { return Floats::read(values + i); }
  float at(Index i) const { return values[i]; }
};

/// Some rows and columns of W, which are multiplied by an X of that depth.
struct Slab {
  Index row, rows, first, depth;
};

/// y of kRows rows, the first of which is `row` of the slab and the next ones `apart` rows further each. What is not at
/// the beginning of rows of W adds to y.
template <class Row, int kRows, int kColumns, class Matrix>
void multiply_tile(const Matrix& w, const Slab& slab, Index row, Index apart,
                   const typename Row::template X<kColumns>& x, float* y, Index y_stride) {
  const auto read = [&]<std::size_t... kAt>(std::index_sequence<kAt...>) {
    return std::array<Row, kRows>{Row(w, slab.row + row + static_cast<Index>(kAt) * apart, slab.first)...};
  };
  const std::array<Row, kRows> rows = read(std::make_index_sequence<kRows>{});
  Floats sums[kRows][kColumns];
  const Index whole = slab.depth / kGroup * kGroup;
  for (Index group = 0; group < whole; group += kGroup) {
    if constexpr (Row::kApart) {
      HSM_WRITTEN_OUT
      for (std::size_t r = 0; r < kRows; ++r) prefetch(rows[r].values + group);
    }
    Row::add_group(rows, x, group, sums);
  }
  HSM_WRITTEN_OUT
  for (std::size_t r = 0; r < kRows; ++r) {
    HSM_WRITTEN_OUT
    for (int c = 0; c < kColumns; ++c) {
      float& to = y[c * y_stride + row + static_cast<Index>(r) * apart];
      const float sum = Row::finish(rows[r], x, c, whole, slab.depth, sums[r][c]);
      to = slab.first == 0 ? sum : to + sum;
    }
  }
}

/// y of the rows of a slab for kColumns columns.
template <class Row, int kColumns, class Matrix>
HSM_NOINLINE void multiply_columns(const Matrix& w, const Slab& slab, const float* x, Index x_stride,
                                   float* y, Index y_stride) {
  const typename Row::template X<kColumns> columns(x, x_stride, slab.depth);
  constexpr int kRows = Row::rows(kColumns);
  const Index tiles = slab.rows / kRows;
  for (Index tile = 0; tile < tiles; ++tile) {
    multiply_tile<Row, kRows, kColumns>(w, slab, Row::kApart ? tile : tile * kRows, Row::kApart ? tiles : 1,
                                        columns, y, y_stride);
  }
  for (Index row = tiles * kRows; row < slab.rows; ++row)
    multiply_tile<Row, 1, kColumns>(w, slab, row, 1, columns, y, y_stride);
}

/// A block of Y: the rows of W from `row` on, by four columns, or as many as an X takes, and the rest. Where these are not
/// all, strips of W stay in the second-level cache from column to column.
template <class Row, class Matrix>
void multiply_few_columns(const Matrix& w, Index row, const ConstColumns<float>& x, Columns<float>& y) {
  constexpr Index kStrip = Index{1} << (Row::kApart ? 17 : 15);  // values
  const Index depth = w.cols(), most = Row::columns(depth);
  const Index strip = Row::kApart && y.cols() <= most
                          ? y.rows()
                          : std::clamp<Index>(kStrip / std::max<Index>(1, depth), 24, 512);
  for (Index r = 0; r < y.rows(); r += strip) {
    for (Index c = 0; c < y.cols(); c += most) {
      Index first = 0;
      do {
        const Slab slab{row + r, (std::min)(strip, y.rows() - r), first,
                        (std::min)(Row::kMost, depth - first)};
        const auto run = [&](auto count) {
          multiply_columns<Row, decltype(count)::value>(w, slab, x.data() + c * x.outerStride() + first,
                                                        x.outerStride(), y.data() + r + c * y.outerStride(),
                                                        y.outerStride());
        };
        switch ((std::min)(most, y.cols() - c)) {
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
        first += slab.depth;
      } while (first < depth);
    }
  }
}

}  // namespace hsm::inline HSM_ABI::detail
