// SPDX-License-Identifier: MIT
//
// Counts allocations: operator new and, with glibc and no sanitizer, malloc and its kin, which this file
// replaces. Include it in one source file of a test program.
#pragma once

#include <atomic>
#include <cstdlib>
#include <new>
#include <string>

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define HSM_TEST_SANITIZED
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define HSM_TEST_SANITIZED
#endif

namespace hsm::test {
inline std::atomic<bool> counting{false};
inline std::atomic<long> allocations{0};
inline void count_allocation() {
  if (counting) ++allocations;
}
}  // namespace hsm::test

#if defined(__GLIBC__) && !defined(HSM_TEST_SANITIZED)
extern "C" {
void* __libc_malloc(std::size_t);
void* __libc_calloc(std::size_t, std::size_t);
void* __libc_realloc(void*, std::size_t);
void* __libc_memalign(std::size_t, std::size_t);

void* malloc(std::size_t size) {
  hsm::test::count_allocation();
  return __libc_malloc(size);
}
void* calloc(std::size_t n, std::size_t size) {
  hsm::test::count_allocation();
  return __libc_calloc(n, size);
}
void* realloc(void* old, std::size_t size) {
  hsm::test::count_allocation();
  return __libc_realloc(old, size);
}
void* aligned_alloc(std::size_t alignment, std::size_t size) {
  hsm::test::count_allocation();
  return __libc_memalign(alignment, size);
}
int posix_memalign(void** result, std::size_t alignment, std::size_t size) {
  hsm::test::count_allocation();
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

/// How often f allocates.
template <class F>
long allocations_of(F&& f) {
  allocations = 0;
  counting = true;
  f();
  counting = false;
  return allocations;
}

}  // namespace hsm::test
