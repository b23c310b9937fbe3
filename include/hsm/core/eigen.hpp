// SPDX-License-Identifier: MIT
//
// Eigen, and the one place that includes it.
//
// With AVX-512, g++ 12 calls values that GCC's own headers leave undefined on purpose "used uninitialized" wherever
// Eigen reaches them (GCC bug 105593), hundreds of times per program. The warnings belong to the lines of those
// headers, so they are silent where this file includes them first. A program that includes Eigen or <immintrin.h>
// before hsm, or both in a precompiled header, gets them as it gets them from Eigen alone: include hsm first, or
// give -Wno-uninitialized -Wno-maybe-uninitialized.
#pragma once

#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ == 12 && defined(__AVX512F__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>
#pragma GCC diagnostic pop
#endif

#include <Eigen/Core>
