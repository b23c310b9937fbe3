// SPDX-License-Identifier: MIT
//
// The vocabulary of the library: the index type, the block types that matrix data is passed in, the one
// multiply-add that all loops round by, and the letters.
//
//   B batch   T time   C channels   H heads   L layers   l layer   s shift (s_l)   K taps   V vocabulary
//
// Activations are [B, T, C] with the channels of a token contiguous. Seen as a matrix, a token is one column:
// n tokens are a column-major block (C, n) whose columns lie a fixed stride apart. Weights of a linear map
// are row-major [out, in].
#pragma once

#include <cfloat>
#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>

#include <hsm/core/abi.hpp>
#include <hsm/core/bit_cast.hpp>
#include <hsm/core/eigen.hpp>

/// Before a function whose instructions must exist once, so that its bits do not depend on the caller.
#if defined(__GNUC__) || defined(__clang__)
#define HSM_NOINLINE __attribute__((noinline))
#define HSM_INLINE inline __attribute__((always_inline))
#define HSM_INLINE_LAMBDA __attribute__((always_inline))
#else
#define HSM_NOINLINE
/// Before a function whose arguments must stay in registers.
#define HSM_INLINE inline
/// The same for a lambda, before its body.
#define HSM_INLINE_LAMBDA
#endif

#if !defined(__GNUC__) || defined(__clang__)
/// Before a loop: its iterations read and write different elements (reading and writing the same element in
/// one is fine). For g++; clang finds out at run time, and would warn wherever it may not vectorise.
#define HSM_INDEPENDENT
/// The same, and the vector code of a short body is written out four times, as clang does by itself: twice as
/// fast where the data is in the first-level cache, 1.1 times in the next.
#define HSM_UNROLLED
/// Before a loop of at most 8 steps that must leave nothing of itself; clang sees to that.
#define HSM_WRITTEN_OUT
#else
#define HSM_INDEPENDENT _Pragma("GCC ivdep")
#define HSM_UNROLLED _Pragma("GCC ivdep") _Pragma("GCC unroll 4")
#define HSM_WRITTEN_OUT _Pragma("GCC unroll 8")
#endif

#if defined(__clang__) && !HSM_FAST_MATH && !defined(__SSE2__)
#define HSM_EXACT_BEGIN  // elsewhere than on x86 not every clang knows the pragma
#define HSM_EXACT_END
#elif !HSM_MAYBE_FAST_MATH || !defined(__GNUC__)
/// Around functions that are right as written only: -ffast-math is off between the two. With g++ they are inlined
/// into each other and, where HSM_INLINE, into others. With clang a unary minus in a template keeps the flag; a
/// product with -1 does not.
#define HSM_EXACT_BEGIN
/// The end of what HSM_EXACT_BEGIN began.
#define HSM_EXACT_END
#elif defined(__clang__)
#define HSM_EXACT_BEGIN _Pragma("float_control(push)") _Pragma("float_control(precise, on)")
#define HSM_EXACT_END _Pragma("float_control(pop)")
#else
#define HSM_EXACT_BEGIN _Pragma("GCC push_options") _Pragma("GCC optimize(\"no-fast-math\")")
#define HSM_EXACT_END _Pragma("GCC pop_options")
#endif

/// Hierarchical Shift Mixing (arXiv 2601.22852): token mixers, their schedules, and what trains and runs models
/// of them.
namespace hsm::inline HSM_ABI {

/// Signed size and index type, the same as Eigen's.
using Index = Eigen::Index;

static_assert(std::numeric_limits<Index>::is_signed && std::numeric_limits<Index>::digits >= 31,
              "hsm: Eigen's index type (EIGEN_DEFAULT_DENSE_INDEX_TYPE) must be signed, of at least 32 bits");
static_assert(FLT_EVAL_METHOD != 2,
              "hsm: x87 arithmetic keeps more bits than float and double have, and its results would depend "
              "on the compiler; on a 32-bit x86 processor compile with -msse2 -mfpmath=sse");

/// Index counts from -2^kIndexBits to 2^kIndexBits - 1: 63, or 31 on 32-bit targets and where Eigen was told so.
inline constexpr int kIndexBits = std::numeric_limits<Index>::digits;

/// The scalars that the library computes in.
template <class S>
concept ComputeScalar = std::is_same_v<S, float> || std::is_same_v<S, double>;

/// A column vector [n] that owns its values: biases, gains, per-head scalars.
template <class Scalar>
using Vector = Eigen::Matrix<Scalar, Eigen::Dynamic, 1, Eigen::ColMajor>;

/// A row-major matrix [out, in] that owns its values, as torch.nn.Linear stores its weight.
template <class Scalar>
using Weights = Eigen::Matrix<Scalar, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// n tokens that own their values: a matrix (rows, n) whose columns lie one after another, whatever order Eigen
/// takes by default (EIGEN_DEFAULT_TO_ROW_MAJOR).
template <class Scalar>
using OwnedColumns = Eigen::Matrix<Scalar, Eigen::Dynamic, Eigen::Dynamic, Eigen::ColMajor>;

/// n tokens as a writable column-major block (rows, n): rows contiguous, columns outerStride() apart.
template <class Scalar>
using Columns = Eigen::Map<OwnedColumns<Scalar>, Eigen::Unaligned, Eigen::OuterStride<>>;

/// The read-only form of `Columns`. A stride of 0 repeats one column.
template <class Scalar>
using ConstColumns = Eigen::Map<const OwnedColumns<Scalar>, Eigen::Unaligned, Eigen::OuterStride<>>;

namespace detail {

/// Makes `owned`, a matrix or vector of any values, one of these sizes, where memory is short an empty one. Eigen's resize
/// frees what there was first, and where it then throws leaves the former sizes.
template <class Owned>
void set_size(Owned& owned, Index rows, Index cols = 1) {
  if (owned.size() != rows * cols) Owned().swap(owned);
  owned.resize(rows, cols);
}

}  // namespace detail

/// The address of element (row, column) of a block of columns.
template <class Block>
auto at(const Block& block, Index row, Index column) {
  return block.data() + row + column * block.outerStride();
}
/// The same, to write to.
template <class Scalar>
Scalar* at(Columns<Scalar>& block, Index row, Index column) {
  return block.data() + row + column * block.outerStride();
}

HSM_EXACT_BEGIN

/// a * x + y with one rounding where the target fuses it in hardware, so that the compiler has no choice of
/// how to round.
template <class Scalar>
HSM_INLINE Scalar multiply_add(Scalar a, Scalar x, Scalar y) {
#if defined(__FMA__) || defined(__aarch64__) || defined(__FP_FAST_FMA)
#if defined(__GNUC__)  // std::fma is a function of others, without these pragmas
  if constexpr (std::is_same_v<Scalar, float>) return __builtin_fmaf(a, x, y);
  if constexpr (std::is_same_v<Scalar, double>) return __builtin_fma(a, x, y);
#endif
  return std::fma(a, x, y);
#else
  return a * x + y;
#endif
}

HSM_EXACT_END

namespace detail {

/// Whether x is neither infinite nor NaN, by its bits: under -ffast-math std::isfinite is always true.
template <class Scalar>
inline bool is_finite(Scalar x) {
  using Bits = std::conditional_t<sizeof(Scalar) == 4, std::uint32_t, std::uint64_t>;
  constexpr Bits kExponent = bit_cast<Bits>(std::numeric_limits<Scalar>::infinity());
  return (bit_cast<Bits>(x) & kExponent) != kExponent;
}

/// Whether all values of a matrix or vector are.
template <class Tensor>
bool all_finite(const Tensor& tensor) {
  bool finite = true;
  for (Index i = 0; i < tensor.size(); ++i) finite &= is_finite(tensor.data()[i]);
  return finite;
}

/// Whether x is NaN, by its bits.
template <class Scalar>
inline bool is_nan(Scalar x) {
  using Bits = std::conditional_t<sizeof(Scalar) == 4, std::uint32_t, std::uint64_t>;
  constexpr Bits kInfinity = bit_cast<Bits>(std::numeric_limits<Scalar>::infinity());
  return (bit_cast<Bits>(x) & ~(Bits{1} << (8 * sizeof(Bits) - 1))) > kInfinity;
}

}  // namespace detail

}  // namespace hsm::inline HSM_ABI
