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
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#include <hsm/core/narrow_matrix.hpp>
#include <hsm/core/product.hpp>

#if !defined(EIGEN_DONT_VECTORIZE) && \
    (defined(__AVX512F__) || (defined(__AVX2__) && defined(__FMA__) && defined(__AVX__)))
#include <immintrin.h>
#endif

namespace hsm::inline HSM_ABI {

namespace detail {

/// Up to so many columns weights are widened in registers.
inline constexpr Index kTiledColumns = 16;

#if defined(__AVX512F__) && !defined(EIGEN_DONT_VECTORIZE)
/// 16 floats in a register.
struct Floats {
  static constexpr Index kSize = 16;
  static constexpr int kRegisters = 32;
  __m512 values = _mm512_setzero_ps();

  static Floats read(const float* from) { return {_mm512_loadu_ps(from)}; }
  static Floats of(float value) { return {_mm512_set1_ps(value)}; }
  static Floats widen(const std::uint16_t* from) {
    const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
    return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16))};
  }
  static Floats widen(const std::int8_t* from) {
    return {
        _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from))))};
  }
  Floats times(Floats factor) const { return {_mm512_mul_ps(values, factor.values)}; }
  void add_product(Floats a, Floats x) { values = _mm512_fmadd_ps(a.values, x.values, values); }
  void write(float* to) const { _mm512_storeu_ps(to, values); }
  float sum() const { return _mm512_reduce_add_ps(values); }
};
#elif defined(__AVX2__) && defined(__FMA__) && !defined(EIGEN_DONT_VECTORIZE)
/// 8 floats in a register.
struct Floats {
  static constexpr Index kSize = 8;
  static constexpr int kRegisters = 16;
  __m256 values = _mm256_setzero_ps();

  static Floats read(const float* from) { return {_mm256_loadu_ps(from)}; }
  static Floats of(float value) { return {_mm256_set1_ps(value)}; }
  static Floats widen(const std::uint16_t* from) {
    const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
    return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16))};
  }
  static Floats widen(const std::int8_t* from) {
    return {
        _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from))))};
  }
  Floats times(Floats factor) const { return {_mm256_mul_ps(values, factor.values)}; }
  void add_product(Floats a, Floats x) { values = _mm256_fmadd_ps(a.values, x.values, values); }
  void write(float* to) const { _mm256_storeu_ps(to, values); }
  float sum() const {
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(values), _mm256_extractf128_ps(values, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
  }
};
#else
/// 4 floats, which many compilers keep in a register.
struct Floats {
  static constexpr Index kSize = 4;
  static constexpr int kRegisters = 16;
  float values[4] = {};

  static Floats read(const float* from) {
    Floats result;
    std::memcpy(result.values, from, sizeof result.values);
    return result;
  }
  static Floats of(float value) { return {{value, value, value, value}}; }
  static Floats widen(const std::uint16_t* from) {
    return {{bfloat16_to_float(from[0]), bfloat16_to_float(from[1]), bfloat16_to_float(from[2]),
             bfloat16_to_float(from[3])}};
  }
  static Floats widen(const std::int8_t* from) {
    return {{static_cast<float>(from[0]), static_cast<float>(from[1]), static_cast<float>(from[2]),
             static_cast<float>(from[3])}};
  }
  Floats times(Floats factor) const {
    Floats result;
    for (int i = 0; i < 4; ++i) result.values[i] = values[i] * factor.values[i];
    return result;
  }
  void add_product(Floats a, Floats x) {
    for (int i = 0; i < 4; ++i) values[i] = multiply_add(a.values[i], x.values[i], values[i]);
  }
  void write(float* to) const { std::memcpy(to, values, sizeof values); }
  float sum() const { return (values[0] + values[2]) + (values[1] + values[3]); }
};
#endif

static_assert(kScaleGroup % Floats::kSize == 0, "hsm: the values of a register share a scale");

/// A row of bf16: floats from its place i on.
struct Bfloat16Row {
  const std::uint16_t* values;

  Bfloat16Row(const NarrowMatrix& matrix, Index row)
      : values(matrix.bfloat16s().data() + row * matrix.cols()) {}
  struct Scale {};
  Scale scale(Index) const { return {}; }
  HSM_INLINE Floats widen(Index i, Scale) const { return Floats::widen(values + i); }
  float at(Index i) const { return bfloat16_to_float(values[i]); }
};

/// A row of int8, with the scales of its groups.
struct Int8Row {
  const std::int8_t* values;
  const float* scales;

  Int8Row(const NarrowMatrix& matrix, Index row)
      : values(matrix.int8s().data() + row * matrix.cols()),
        scales(matrix.scales().data() + row * matrix.groups()) {}
  using Scale = Floats;
  HSM_INLINE Scale scale(Index i) const { return Floats::of(scales[i / kScaleGroup]); }
  HSM_INLINE Floats widen(Index i, Scale scale) const { return Floats::widen(values + i).times(scale); }
  float at(Index i) const { return static_cast<float>(values[i]) * scales[i / kScaleGroup]; }
};

/// Asks for what lies two pages behind a place of a matrix, into the second-level cache: rows in fewer bytes end before a
/// processor has seen that it could fetch ahead. With it and 8 rows one thread of a Zen 5 reads 21 to 25 GB/s of bf16,
/// with 4 rows and without it 14.
template <class Value>
HSM_INLINE void prefetch(const Value* place) {
#if defined(__GNUC__) || defined(__clang__)
  __builtin_prefetch(reinterpret_cast<const char*>(place) + 8192, 0, 2);
#else
  static_cast<void>(place);
#endif
}

/// y of kRows rows from `row` on and kColumns columns. Every element is summed in the same order whatever the tile.
template <class Row, int kRows, int kColumns>
void multiply_tile(const NarrowMatrix& w, Index row, const float* x, Index x_stride, float* y,
                   Index y_stride) {
  const auto rows = [&]<std::size_t... I>(std::index_sequence<I...>) {
    return std::array<Row, kRows>{Row(w, row + static_cast<Index>(I))...};
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
