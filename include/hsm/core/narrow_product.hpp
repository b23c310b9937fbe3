// SPDX-License-Identifier: MIT
//
// Y = W X with W in fewer bytes (core/narrow_matrix.hpp), 2 rows columns n flop:
//
//   n <= 16, float   weights are widened in registers, tile by tile (core/few_columns.hpp): W is read once, and with one
//                    column its bytes are all that takes time
//   else             some rows at a time are widened into memory that stays in cache, for the usual product
//
// Both multiply by what the weights are worth, in float or double: y is that of the widened matrix, off by at most
// columns epsilon sum |w x|, as any sum of so many products; x is not rounded. The first form multiplies the sum of q x of
// 32 values of int8 by their scale: |x| up to 2^117. With it an element has the same bits for any such n. AVX-512, AVX2
// with FMA, or plain C++, whatever the translation unit is compiled for.
// The 16-bit and 8-bit dot products of AVX-512 BF16 and VNNI are left alone: they round x to 8 bits, so the results would
// be others than without them, and with one column there is nothing to gain, it waits for memory.
#pragma once

#include <algorithm>
#include <cassert>
#include <type_traits>

#include <hsm/core/few_columns.hpp>
#include <hsm/core/narrow_matrix.hpp>
#include <hsm/core/narrow_row.hpp>
#include <hsm/core/product.hpp>

namespace hsm::inline HSM_ABI {

namespace detail {

/// Up to so many columns weights are widened in registers.
inline constexpr Index kFewNarrowColumns = 16;

/// What a row is worth.
template <class Row, class Scalar>
void widen_row(const Row& row, Index columns, Scalar* to) {
  Index i = 0;
  if constexpr (std::is_same_v<Scalar, float>) {
    for (; i + kScaleGroup <= columns; i += kScaleGroup) {
      for (Index k = i; k < i + kScaleGroup; k += Floats::kSize) {
        if constexpr (Row::kScaled) {
          row.read(k).times(row.scale(i)).write(to + k);
        } else {
          row.read(k).write(to + k);
        }
      }
    }
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
      if (y.cols() <= kFewNarrowColumns) {
        if (w.storage() == Storage::kBfloat16) {
          multiply_few_columns<Bfloat16Row>(w, r, x_part, block);
        } else {
          multiply_few_columns<Int8Row>(w, r, x_part, block);
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
