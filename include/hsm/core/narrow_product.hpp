// SPDX-License-Identifier: MIT
//
// Y = W X with W in fewer bytes (core/narrow_matrix.hpp), 2 rows columns n flop:
//
//   n <= kTiledColumns, float   weights are widened in registers, in tiles of up to 8 rows with one column, of up to 4
//                               rows by 4 columns with more: W is read once, and with one column its bytes are all that
//                               takes time
//   else                        some rows at a time are widened into memory that stays in cache, for the usual product
//
// Both multiply by what the weights are worth, in float or double: y is that of the widened matrix, off by at most
// columns epsilon sum |w x|, as any sum of so many products; x is not rounded. With the first form an element has the same
// bits for any such n. AVX-512, AVX2 with FMA, or plain C++, whatever the translation unit is compiled for.
// The 16-bit and 8-bit dot products of AVX-512 BF16 and VNNI are left alone: they round x to 8 bits, so the results would
// be others than without them, and with one column there is nothing to gain, it waits for memory.
#pragma once

#include <algorithm>
#include <array>
#include <cassert>
#include <type_traits>
#include <utility>

#include <hsm/core/narrow_matrix.hpp>
#include <hsm/core/narrow_row.hpp>
#include <hsm/core/product.hpp>

namespace hsm::inline HSM_ABI {

namespace detail {

/// Up to so many columns weights are widened in registers.
inline constexpr Index kTiledColumns = 16;

/// y of kRows rows from `row` on and kColumns columns. Every element is summed in the same order whatever the tile.
template <class Row, int kRows, int kColumns>
void multiply_tile(const NarrowMatrix& w, Index row, const float* x, Index x_stride, float* y,
                   Index y_stride) {
  const auto rows = [&]<std::size_t... kAt>(std::index_sequence<kAt...>) {
    return std::array<Row, kRows>{Row(w, row + static_cast<Index>(kAt))...};
  }
  (std::make_index_sequence<kRows>{});
  Floats sums[kRows][kColumns];
  const Index depth = w.cols(), whole = depth / kScaleGroup * kScaleGroup;
  for (Index group = 0; group < whole; group += kScaleGroup) {
    if constexpr (kRows > 1) {
      HSM_WRITTEN_OUT
      for (std::size_t r = 0; r < kRows; ++r) prefetch(rows[r].values + group);
    }
    HSM_WRITTEN_OUT
    for (Index i = 0; i < kScaleGroup / Floats::kSize; ++i) {
      const Index place = group + i * Floats::kSize;
      Floats part[kColumns];
      HSM_WRITTEN_OUT
      for (int c = 0; c < kColumns; ++c) part[c] = Floats::read(x + c * x_stride + place);
      HSM_WRITTEN_OUT
      for (std::size_t r = 0; r < kRows; ++r) {
        const Floats weights = rows[r].widen(place, rows[r].scale(group));
        HSM_WRITTEN_OUT
        for (int c = 0; c < kColumns; ++c) sums[r][c].add_product(weights, part[c]);
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

/// y of rows `row` to row + y.rows() for kColumns columns.
template <class Row, int kColumns>
HSM_NOINLINE void multiply_columns(const NarrowMatrix& w, Index row, const float* x, Index x_stride, float* y,
                                   Index y_stride, Index rows) {
  constexpr int kRows = kColumns == 1 ? 8 : 4 * kColumns <= Floats::kRegisters / 2 ? 4 : 2;
  Index r = 0;
  for (; r + kRows <= rows; r += kRows)
    multiply_tile<Row, kRows, kColumns>(w, row + r, x, x_stride, y + r, y_stride);
  for (; r < rows; ++r) multiply_tile<Row, 1, kColumns>(w, row + r, x, x_stride, y + r, y_stride);
}

/// A block of Y by tiles.
template <class Row>
void multiply_tiles(const NarrowMatrix& w, Index row, const ConstColumns<float>& x, Columns<float>& y) {
  constexpr Index kFew = 64;  // rows, which stay in the first-level cache from column to column
  for (Index r = 0; r < y.rows(); r += kFew) {
    const Index rows = (std::min)(kFew, y.rows() - r);
    for (Index c = 0; c < y.cols(); c += 4) {
      const auto run = [&](auto count) {
        multiply_columns<Row, decltype(count)::value>(w, row + r, hsm::at(x, 0, c), x.outerStride(),
                                                      hsm::at(y, r, c), y.outerStride(), rows);
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

/// What a row is worth.
template <class Row, class Scalar>
void widen_row(const Row& row, Index columns, Scalar* to) {
  Index i = 0;
  if constexpr (std::is_same_v<Scalar, float>) {
    for (; i + kScaleGroup <= columns; i += kScaleGroup)
      for (Index k = i; k < i + kScaleGroup; k += Floats::kSize) row.widen(k, row.scale(i)).write(to + k);
  }
  for (; i < columns; ++i) to[i] = static_cast<Scalar>(row.at(i));
}

/// The rows from `row` on, n of them, one after another.
template <class Scalar>
HSM_NOINLINE void widen_rows(const NarrowMatrix& w, Index row, Index n, Scalar* to) {
  for (Index r = row; r < row + n; ++r, to += w.cols()) {
    if (w.storage() == Storage::kBfloat16) {
      widen_row(Bfloat16Row(w, r), w.cols(), to);
    } else {
      widen_row(Int8Row(w, r), w.cols(), to);
    }
  }
}

/// A block of Y, its rows from `row` on, by the usual product with some widened rows at a time.
template <class Scalar>
void multiply_panels(const NarrowMatrix& w, Index row, const ConstColumns<Scalar>& x, Columns<Scalar>& y) {
  constexpr Index kPanel = Index{1} << 17;  // values
  const Index depth = w.cols();
  const Index most = std::clamp<Index>(kPanel / std::max<Index>(1, depth) / 16 * 16, 16, 128);
  OwnedColumns<Scalar> panel(depth, (std::min)(most, y.rows()));
  for (Index r = 0; r < y.rows(); r += most) {
    const Index rows = (std::min)(most, y.rows() - r);
    widen_rows(w, row + r, rows, panel.data());
    auto block = part(y, r, rows, 0, y.cols());
    multiply<Side::kTransposed, Side::kPlain, Scalar>(
        ConstColumns<Scalar>(panel.data(), depth, rows, Eigen::OuterStride<>(depth)), x, Write::kOverwrite,
        block);
  }
}

/// What follows a block of a product, without a type of its own: the product with narrow matrices exists once.
template <class Scalar>
struct AnyEpilogue {
  const void* epilogue;
  void (*call)(const void* epilogue, Index row, Index column, Columns<Scalar>& block);

  template <class Epilogue>
  explicit AnyEpilogue(const Epilogue& f)
      : epilogue(&f), call([](const void* of, Index row, Index column, Columns<Scalar>& block) {
          (*static_cast<const Epilogue*>(of))(row, column, block);
        }) {}
  void operator()(Index row, Index column, Columns<Scalar>& block) const {
    call(epilogue, row, column, block);
  }
};

template <class Scalar>
HSM_NOINLINE void narrow_product(const NarrowMatrix& w, ConstColumns<Scalar> x, Columns<Scalar> y,
                                 Executor& executor, const AnyEpilogue<Scalar>& epilogue) {
  assert(w.cols() == x.rows() && w.rows() == y.rows() && x.cols() == y.cols());
  for_each_block(executor, Grid(y.rows(), y.cols(), x.rows()), [&](Index r, Index rows, Index c, Index cols) {
    auto block = part(y, r, rows, c, cols);
    const ConstColumns<Scalar> x_part = part(x, 0, x.rows(), c, cols);
    if constexpr (std::is_same_v<Scalar, float>) {
      if (y.cols() <= kTiledColumns) {
        if (w.storage() == Storage::kBfloat16) {
          multiply_tiles<Bfloat16Row>(w, r, x_part, block);
        } else {
          multiply_tiles<Int8Row>(w, r, x_part, block);
        }
        epilogue(r, c, block);
        return;
      }
    }
    multiply_panels(w, r, x_part, block);
    epilogue(r, c, block);
  });
}

}  // namespace detail

/// Y = W X: W [out, in] in fewer bytes and not empty, X (in, n), Y (out, n) overwritten. epilogue(first_row,
/// first_column, block of Y) follows each block.
template <class Scalar, class Epilogue = NoEpilogue>
void product(const NarrowMatrix& w, ConstColumns<Scalar> x, Columns<Scalar> y, Executor& executor,
             const Epilogue& epilogue = Epilogue()) {
  detail::narrow_product<Scalar>(w, x, y, executor, detail::AnyEpilogue<Scalar>(epilogue));
}

}  // namespace hsm::inline HSM_ABI
