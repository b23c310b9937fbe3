// SPDX-License-Identifier: MIT
//
// Y = W X with W in fewer bytes (core/narrow_matrix.hpp), 2 rows columns n flop:
//
//   n <= 16   weights are widened in registers, of floats tile by tile (core/few_columns.hpp): W is read once, and with one
//             column its bytes are all that takes time. Allocates nothing
//   else      some rows at a time are widened into memory that stays in cache, for the usual product
//
// Both multiply by what the weights are worth, in float or double: y is that of the widened matrix, off by at most
// columns epsilon sum |w x|, as any sum of so many products. The first form of int8 rounds floats x to 16 bits
// (core/rounded_columns.hpp) and sums products of 32 whole numbers: |x| up to 2^117, and off by 2^-15 / 2 of the largest |x|
// of each 32 values times the sum of their |w| besides, at most an eighth of what storing w in 8 bits may cost. With the
// first form an element has the same bits for any such n. AVX-512, AVX2 with FMA, or plain C++, whatever the translation
// unit is compiled for.
// The 8-bit dot products of AVX-512 VNNI and those of AVX-512 BF16 are left alone: they round x to 8 bits, and with one
// column there is nothing to gain, it waits for memory.
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
        if constexpr (std::is_same_v<Row, Int8Row>) {
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
      widen_row(Bfloat16Row(w, r, 0), w.cols(), to);
    } else {
      widen_row(Int8Row(w, r, 0), w.cols(), to);
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

/// A block of Y of at most kFewNarrowColumns columns in double, one row after another. Allocates nothing.
template <class Row>
void multiply_few_doubles(const NarrowMatrix& w, Index row, const ConstColumns<double>& x,
                          Columns<double>& y) {
  for (Index r = 0; r < y.rows(); ++r) {
    const Row own(w, row + r, 0);
    double sums[kFewNarrowColumns] = {};
    for (Index i = 0; i < w.cols(); i += kGroup) {
      const Index count = (std::min)(kGroup, w.cols() - i);
      double weights[kGroup];
      for (Index k = 0; k < count; ++k) weights[k] = static_cast<double>(own.at(i + k));
      for (Index c = 0; c < y.cols(); ++c)
        for (Index k = 0; k < count; ++k) sums[c] += weights[k] * x(i + k, c);
    }
    for (Index c = 0; c < y.cols(); ++c) y(r, c) = sums[c];
  }
}

/// A block of Y of at most kFewNarrowColumns columns.
template <class Row, class Scalar>
void multiply_few(const NarrowMatrix& w, Index row, const ConstColumns<Scalar>& x, Columns<Scalar>& y) {
  if constexpr (std::is_same_v<Scalar, float>) {
    multiply_few_columns<Row>(w, row, x, y);
  } else {
    multiply_few_doubles<Row>(w, row, x, y);
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
    if (y.cols() > kFewNarrowColumns) {
      multiply_panels(w, r, x_part, block);
    } else if (w.storage() == Storage::kBfloat16) {
      multiply_few<Bfloat16Row>(w, r, x_part, block);
    } else {
      multiply_few<Int8Row>(w, r, x_part, block);
    }
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
