// SPDX-License-Identifier: MIT
//
// Counts allocations: operator new and, with glibc and no sanitizer, malloc and its kin, which this file
// replaces. Those of a product library other than Eigen are counted apart: whether OpenBLAS allocates depends on the
// processor it finds. Include it in one source file of a test program.
#pragma once

#if defined(__linux__)
#include <dlfcn.h>
#endif

#include <atomic>
#include <cstdlib>
#include <new>
#include <string>

namespace hsm::test {
inline std::atomic<bool> counting{false};
inline std::atomic<long> allocations{0};
inline std::atomic<long> foreign_allocations{0};  // made by the library that has cblas_sgemm

/// Where the shared library that `address` belongs to begins; null where that is not known.
inline const void* library_of([[maybe_unused]] const void* address) {
#if defined(__GLIBC__)
  Dl_info info;
  if (address && dladdr(address, &info) != 0) return info.dli_fbase;
#endif
  return nullptr;
}

/// The product library, unless it is part of the program itself.
inline const void* product_library_base() {
#if defined(__GLIBC__)
  static const void* const base = [] {
    static const char own = 0;
    const void* found = library_of(dlsym(RTLD_DEFAULT, "cblas_sgemm"));
    return found == library_of(&own) ? nullptr : found;
  }();
  return base;
#else
  return nullptr;
#endif
}

inline void count_allocation([[maybe_unused]] const void* caller = nullptr) {
  if (!counting) return;
  const void* products = product_library_base();  // known since allocations_of began
  ++(products && library_of(caller) == products ? foreign_allocations : allocations);
}
}  // namespace hsm::test

#if defined(__GLIBC__) && !defined(HSM_TEST_SANITIZED)
extern "C" {
void* __libc_malloc(std::size_t);
void* __libc_calloc(std::size_t, std::size_t);
void* __libc_realloc(void*, std::size_t);
void* __libc_memalign(std::size_t, std::size_t);

void* malloc(std::size_t size) {
  hsm::test::count_allocation(__builtin_return_address(0));
  return __libc_malloc(size);
}
void* calloc(std::size_t n, std::size_t size) {
  hsm::test::count_allocation(__builtin_return_address(0));
  return __libc_calloc(n, size);
}
void* realloc(void* old, std::size_t size) {
  hsm::test::count_allocation(__builtin_return_address(0));
  return __libc_realloc(old, size);
}
void* aligned_alloc(std::size_t alignment, std::size_t size) {
  hsm::test::count_allocation(__builtin_return_address(0));
  return __libc_memalign(alignment, size);
}
int posix_memalign(void** result, std::size_t alignment, std::size_t size) {
  hsm::test::count_allocation(__builtin_return_address(0));
  *result = __libc_memalign(alignment, size);
  return *result ? 0 : 12;
}
}
#else
void* operator new(std::size_t size) {
  hsm::test::count_allocation();
  if (void* memory = std::malloc(size)) return memory;
  throw std::bad_alloc();
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
#endif

namespace hsm::test {

/// How often f allocates, outside a product library other than Eigen.
template <class F>
long allocations_of(F&& f) {
  (void)product_library_base();
  allocations = 0;
  foreign_allocations = 0;
  counting = true;
  f();
  counting = false;
  return allocations;
}

}  // namespace hsm::test
