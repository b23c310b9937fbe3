// SPDX-License-Identifier: MIT
//
// Every matrix product of the library, and the one place that chooses who computes it: Eigen, or cblas where
// the target hsm::blas defines HSM_USE_BLAS. For a linear map y = W x with W [out, in] and n tokens as
// columns:
//
//   product             Y  = W X            (out, n)     2 out in n flop each
//   product_transposed  dX = W^T dY         (in, n)      overwritten or added to
//   product_outer       dW += dY X^T        [out, in]
//
// Up to 8 columns of floats are multiplied here, where the processor has vectors for it (core/few_columns.hpp).
// Work is split into blocks whose bounds follow from the sizes alone, so the bits do not depend on the number
// of threads; inside a block the product is serial. An epilogue sees each finished block of Y while it is in
// cache (bias, activation). Sizes are the caller's to check: these functions assert them.
//
// X and dY may be any readable view, columns that overlap or repeat included; what is written must lie apart. Where Eigen
// itself is told to use a BLAS (EIGEN_USE_BLAS) that holds too, but whether a block is serial is that library's to say.
#pragma once

#include <algorithm>
#include <cassert>
#include <limits>
#include <type_traits>
#if defined(HSM_USE_BLAS)
#include <cblas.h>
#endif

#include <hsm/core/eigen_kernel.hpp>
#include <hsm/core/executor.hpp>
#include <hsm/core/few_columns.hpp>
#include <hsm/core/types.hpp>

namespace hsm::inline HSM_ABI {

/// Whether a result replaces what was there or is added to it.
enum class Write { kOverwrite, kAdd };

/// The name of the library that computes products in this translation unit.
inline const char* product_library() {
#if defined(HSM_USE_BLAS)
  return "cblas";
#else
  return "Eigen";
#endif
}

namespace detail {

enum class Side { kPlain, kTransposed };

#if defined(HSM_USE_BLAS) || defined(EIGEN_USE_BLAS)
#if defined(HSM_USE_BLAS)
inline constexpr Index kMostBlas = (std::numeric_limits<blasint>::max)();
#else
inline constexpr Index kMostBlas = (std::numeric_limits<int>::max)();
#endif

/// Whether a BLAS can use m where it lies: it takes columns that do not overlap, at a distance within its integers. Columns
/// that lie side by side a copy would not make shorter. Eigen hands on the distance of a single column too.
template <class Block>
bool blas_can_use(const Block& m) {
#if defined(HSM_USE_BLAS)
  if (m.cols() <= 1) return true;
#endif
  return m.outerStride() == m.rows() || (m.outerStride() > m.rows() && m.outerStride() <= kMostBlas);
}

/// m in memory of its own.
template <class Scalar>
ConstColumns<Scalar> compact(const ConstColumns<Scalar>& m, OwnedColumns<Scalar>& memory) {
  memory = m;
  return {memory.data(), m.rows(), m.cols(), Eigen::OuterStride<>(m.rows())};
}
#endif

/// C (+)= op(A) op(B), all column-major, serial. The one call of a product library. Columns of A and B may overlap or
/// repeat (windows of a signal), and all may lie further apart than a BLAS can count; it gets a copy of those.
template <Side A_side, Side B_side, class Scalar>
void multiply(const ConstColumns<Scalar>& a, const ConstColumns<Scalar>& b, Write write, Columns<Scalar>& c) {
  if (c.size() == 0) return;
#if defined(HSM_USE_BLAS) || defined(EIGEN_USE_BLAS)
  if (!blas_can_use(a) || !blas_can_use(b)) {
    OwnedColumns<Scalar> a_memory, b_memory;
    const auto a_read = blas_can_use(a) ? a : compact(a, a_memory);
    const auto b_read = blas_can_use(b) ? b : compact(b, b_memory);
    multiply<A_side, B_side, Scalar>(a_read, b_read, write, c);
    return;
  }
  if (!blas_can_use(c)) {
    OwnedColumns<Scalar> memory = c;
    Columns<Scalar> gathered(memory.data(), c.rows(), c.cols(), Eigen::OuterStride<>(c.rows()));
    multiply<A_side, B_side, Scalar>(a, b, write, gathered);
    c = memory;
    return;
  }
#endif
#if defined(HSM_USE_BLAS)
  const auto size = [](Index n) { return static_cast<blasint>(n); };
  const auto stride = [](const auto& m) {
    return static_cast<blasint>(std::max<Index>({m.cols() > 1 ? m.outerStride() : 0, m.rows(), 1}));
  };
  const CBLAS_TRANSPOSE a_op = A_side == Side::kTransposed ? CblasTrans : CblasNoTrans;
  const CBLAS_TRANSPOSE b_op = B_side == Side::kTransposed ? CblasTrans : CblasNoTrans;
  const Index depth = A_side == Side::kTransposed ? a.rows() : a.cols();
  const Scalar beta = write == Write::kAdd ? Scalar(1) : Scalar(0);
  if (depth == 0) {  // an empty sum; gemv would leave c as it was
    if (write == Write::kOverwrite) c.setZero();
    return;
  }
  if constexpr (B_side == Side::kPlain) {
    if (c.cols() == 1) {
      if constexpr (std::is_same_v<Scalar, float>) {
        cblas_sgemv(CblasColMajor, a_op, size(a.rows()), size(a.cols()), 1, a.data(), stride(a), b.data(), 1,
                    beta, c.data(), 1);
      } else {
        cblas_dgemv(CblasColMajor, a_op, size(a.rows()), size(a.cols()), 1, a.data(), stride(a), b.data(), 1,
                    beta, c.data(), 1);
      }
      return;
    }
  }
  if constexpr (std::is_same_v<Scalar, float>) {
    cblas_sgemm(CblasColMajor, a_op, b_op, size(c.rows()), size(c.cols()), size(depth), 1, a.data(),
                stride(a), b.data(), stride(b), beta, c.data(), stride(c));
  } else {
    cblas_dgemm(CblasColMajor, a_op, b_op, size(c.rows()), size(c.cols()), size(depth), 1, a.data(),
                stride(a), b.data(), stride(b), beta, c.data(), stride(c));
  }
#else
#if HSM_EIGEN_SERIAL
  const Index depth = A_side == Side::kTransposed ? a.rows() : a.cols();
  if (c.cols() > 1 && c.rows() > 1 && depth > 0 && c.rows() + c.cols() + depth >= 20) {  // as Eigen chooses
    constexpr int kAOrder = A_side == Side::kTransposed ? Eigen::RowMajor : Eigen::ColMajor;
    constexpr int kBOrder = B_side == Side::kTransposed ? Eigen::RowMajor : Eigen::ColMajor;
    if (write == Write::kOverwrite) c.setZero();
    add_product<kAOrder, kBOrder>(c.rows(), c.cols(), depth, a.data(), a.outerStride(), b.data(),
                                  b.outerStride(), c.data(), c.outerStride());
    return;
  }
#endif
  const auto assign = [&](const auto& left, const auto& right) {
    if (write == Write::kAdd) {
      c.noalias() += left * right;
    } else {
      c.noalias() = left * right;
    }
  };
  if constexpr (A_side == Side::kTransposed && B_side == Side::kTransposed) {
    assign(a.transpose(), b.transpose());
  } else if constexpr (A_side == Side::kTransposed) {
    assign(a.transpose(), b);
  } else if constexpr (B_side == Side::kTransposed) {
    assign(a, b.transpose());
  } else {
    assign(a, b);
  }
#endif
}

/// Row-major weights [out, in] seen as the column-major matrix (in, out) in the same memory.
template <class Scalar>
ConstColumns<Scalar> transposed(const Weights<Scalar>& w) {
  return {w.data(), w.cols(), w.rows(), Eigen::OuterStride<>(w.cols())};
}
template <class Scalar>
Columns<Scalar> transposed(Weights<Scalar>& w) {
  return {w.data(), w.cols(), w.rows(), Eigen::OuterStride<>(w.cols())};
}

template <class Scalar>
ConstColumns<Scalar> read(const Columns<Scalar>& c) {
  return {c.data(), c.rows(), c.cols(), Eigen::OuterStride<>(c.outerStride())};
}

/// rows x cols cut into blocks: columns first, rows too where few columns would leave threads without work.
struct Grid {
  Index rows, cols, row_block, col_block;

  static Index even(Index size,
                    Index most) {  // the largest block <= most, a multiple of 16, that cuts size evenly
    const Index parts = std::max<Index>(1, (size + most - 1) / most);
    return std::max<Index>(16, (size + parts * 16 - 1) / (parts * 16) * 16);
  }

  Grid(Index r, Index c, Index depth)
      : rows(r), cols(c), row_block(std::max<Index>(r, 1)), col_block(even(c, 256)) {
    const bool is_small = r * depth < (Index{1} << 16) / std::max<Index>(1, c);
    if (!is_small && (c + col_block - 1) / col_block < 4) row_block = even(r, 256);
  }

  Index row_blocks() const { return (rows + row_block - 1) / row_block; }
  Index tasks() const { return row_blocks() * ((cols + col_block - 1) / col_block); }
};

/// Calls f(first_row, rows, first_col, cols) for every block of the grid, on the executor.
template <class F>
void for_each_block(Executor& executor, const Grid& grid, F&& f) {
  if (grid.rows == 0 || grid.cols == 0) return;
  parallel_blocks(executor, grid.tasks(), 1, [&](Index task, Index, int) {
    const Index row = task % grid.row_blocks() * grid.row_block;
    const Index col = task / grid.row_blocks() * grid.col_block;
    f(row, (std::min)(grid.row_block, grid.rows - row), col, (std::min)(grid.col_block, grid.cols - col));
  });
}

template <class Map>
auto part(Map& m, Index row, Index rows, Index col, Index cols) {
  return std::remove_const_t<Map>(m.data() + row + col * m.outerStride(), rows, cols,
                                  Eigen::OuterStride<>(m.outerStride()));
}

/// Up to so many columns of floats are not given to a product library.
inline constexpr Index kFewFloatColumns = HSM_FLOATS_IN_REGISTERS ? 8 : 0;

}  // namespace detail

/// Nothing to do after a block of a product.
struct NoEpilogue {
  /// Leaves the block as it is.
  template <class Block>
  void operator()(Index /*first_row*/, Index /*first_column*/, Block& /*y*/) const {}
};

/// Y = W X: W [out, in], X (in, n), Y (out, n) overwritten. epilogue(first_row, first_column, block of Y)
/// follows each block.
template <class Scalar, class Epilogue = NoEpilogue>
void product(const Weights<Scalar>& w, ConstColumns<Scalar> x, Columns<Scalar> y, Executor& executor,
             Epilogue&& epilogue = Epilogue()) {
  assert(w.cols() == x.rows() && w.rows() == y.rows() && x.cols() == y.cols());
  const ConstColumns<Scalar> wt = detail::transposed(w);
  detail::for_each_block(executor, detail::Grid(y.rows(), y.cols(), x.rows()),
                         [&](Index r, Index rows, Index c, Index cols) {
                           auto block = detail::part(y, r, rows, c, cols);
                           const auto x_part = detail::part(x, 0, x.rows(), c, cols);
                           if constexpr (std::is_same_v<Scalar, float>) {
                             if (y.cols() <= detail::kFewFloatColumns) {
                               detail::multiply_few_columns<detail::FloatRow>(w, r, x_part, block);
                               epilogue(r, c, block);
                               return;
                             }
                           }
                           detail::multiply<detail::Side::kTransposed, detail::Side::kPlain, Scalar>(
                               detail::part(wt, 0, wt.rows(), r, rows), x_part, Write::kOverwrite, block);
                           epilogue(r, c, block);
                         });
}

/// dX (+)= W^T dY: W [out, in], dY (out, n), dX (in, n).
template <class Scalar>
void product_transposed(const Weights<Scalar>& w, ConstColumns<Scalar> dy, Write write, Columns<Scalar> dx,
                        Executor& executor) {
  assert(w.rows() == dy.rows() && w.cols() == dx.rows() && dx.cols() == dy.cols());
  const ConstColumns<Scalar> wt = detail::transposed(w);
  detail::for_each_block(
      executor, detail::Grid(dx.rows(), dx.cols(), dy.rows()), [&](Index r, Index rows, Index c, Index cols) {
        auto block = detail::part(dx, r, rows, c, cols);
        detail::multiply<detail::Side::kPlain, detail::Side::kPlain, Scalar>(
            detail::part(wt, r, rows, 0, wt.cols()), detail::part(dy, 0, dy.rows(), c, cols), write, block);
      });
}

/// dW += dY X^T, and db += the sum of the columns of dY unless db is empty: dY (out, n), X (in, n), dW [out,
/// in], db [out].
template <class Scalar>
void product_outer(ConstColumns<Scalar> dy, ConstColumns<Scalar> x, Weights<Scalar>& dw, Vector<Scalar>& db,
                   Executor& executor) {
  assert(dw.rows() == dy.rows() && dw.cols() == x.rows() && x.cols() == dy.cols() && db.size() <= dw.rows());
  Columns<Scalar> dwt = detail::transposed(dw);
  parallel_blocks(executor, dw.rows(), detail::Grid::even(dw.rows(), 128), [&](Index r, Index rows, int) {
    auto block = detail::part(dwt, 0, dwt.rows(), r, rows);
    const auto dy_rows = detail::part(dy, r, rows, 0, dy.cols());
    detail::multiply<detail::Side::kPlain, detail::Side::kTransposed, Scalar>(x, dy_rows, Write::kAdd, block);
    const Index biased = (std::min)(rows, db.size() - r);
    for (Index j = 0; biased > 0 && j < dy.cols(); ++j) db.segment(r, biased) += dy_rows.col(j).head(biased);
  });
}

}  // namespace hsm::inline HSM_ABI
