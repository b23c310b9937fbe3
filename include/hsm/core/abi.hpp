// SPDX-License-Identifier: MIT
//
// What the code of this translation unit is compiled for, as the name of an inline namespace that everything in
// hsm lives in:
//
//   hsm::eigen_avx2_fma::Mixer    named hsm::Mixer in source
//
// The headers become other instructions under other flags: products by Eigen or by cblas, vectors of another
// width, a multiply-add that rounds once or twice, exceptions or none. Two units of one program may differ in
// that; under one name the linker would keep one of the two codes and let it serve both. With a name each, both
// keep their own, and handing an hsm object from one to the other does not link.
//
// Eigen has no such names. Its functions, which ours call, are one to the linker whatever their unit was compiled
// for; among them are those that allocate and free, in another way where vectors are wider. Units of one program
// that include Eigen, with hsm or without, therefore want the same -m flags and the same EIGEN_ macros; units that
// differ in HSM_USE_BLAS, -ffast-math or -fno-exceptions may stand side by side.
#pragma once

#if defined(HSM_USE_BLAS)
#define HSM_DETAIL_PRODUCTS blas
#else
#define HSM_DETAIL_PRODUCTS eigen
#endif

#if defined(EIGEN_DONT_VECTORIZE)
#define HSM_DETAIL_VECTORS _scalar
#elif defined(__AVX512F__) && defined(__AVX512BW__)
#define HSM_DETAIL_VECTORS _avx512
#elif defined(__AVX512F__)
#define HSM_DETAIL_VECTORS _avx512f
#elif defined(__AVX2__)
#define HSM_DETAIL_VECTORS _avx2
#elif defined(__AVX__)
#define HSM_DETAIL_VECTORS _avx
#else
#define HSM_DETAIL_VECTORS
#endif

#if defined(__FMA__) || defined(__aarch64__) || defined(__FP_FAST_FMA)
#define HSM_DETAIL_ROUNDING _fma
#else
#define HSM_DETAIL_ROUNDING
#endif

/// 1 where the compiler may calculate as with real numbers (-ffast-math, -Ofast, or a part of them), else 0.
#if defined(__FAST_MATH__) || defined(__ASSOCIATIVE_MATH__) || defined(__RECIPROCAL_MATH__) || \
    (defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__)
#define HSM_FAST_MATH 1
#define HSM_DETAIL_FAST _fast
#else
#define HSM_FAST_MATH 0
#define HSM_DETAIL_FAST
#endif

/// 1 where that may be so: clang and g++ 11 do not tell of parts of it, such as -funsafe-math-optimizations or -ffast-math
/// -fno-finite-math-only. What is right as written only stays right there too; the name of the namespace does not tell.
#if HSM_FAST_MATH || defined(__clang__) || (defined(__GNUC__) && __GNUC__ < 12)
#define HSM_MAYBE_FAST_MATH 1
#else
#define HSM_MAYBE_FAST_MATH 0
#endif

#if defined(__cpp_exceptions)
#define HSM_DETAIL_ERRORS
#else
#define HSM_DETAIL_ERRORS _abort
#endif

#define HSM_DETAIL_JOIN(a, b, c, d, e) a##b##c##d##e
#define HSM_DETAIL_ABI(a, b, c, d, e) HSM_DETAIL_JOIN(a, b, c, d, e)

/// The inline namespace of this translation unit.
#define HSM_ABI                                                                                 \
  HSM_DETAIL_ABI(HSM_DETAIL_PRODUCTS, HSM_DETAIL_VECTORS, HSM_DETAIL_ROUNDING, HSM_DETAIL_FAST, \
                 HSM_DETAIL_ERRORS)
