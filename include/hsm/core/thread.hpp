// SPDX-License-Identifier: MIT
//
// A thread that asks for the stack it needs. Eigen's products keep buffers of up to
// EIGEN_STACK_ALLOCATION_LIMIT bytes each (128 KiB unless the user says otherwise) on the stack of the thread
// that computes them, which is more than some systems give a thread: musl's default is 128 KiB in all. A
// std::thread cannot ask; where there are POSIX threads this does.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <system_error>
#include <thread>
#include <utility>

#if defined(__unix__) || defined(__APPLE__)
#define HSM_DETAIL_POSIX_THREADS
#include <pthread.h>
#endif

#include <hsm/core/eigen.hpp>
#include <hsm/core/raise.hpp>

namespace hsm::inline HSM_ABI {

/// The stack in bytes that a thread should have which calls this library with Eigen's products: 1 MiB with
/// Eigen's own limits. The threads of a ThreadedExecutor have it; the caller's are the caller's to make.
inline constexpr std::size_t kThreadStackBytes =
    (std::size_t{1} << 19) + 4 * static_cast<std::size_t>(EIGEN_STACK_ALLOCATION_LIMIT);

namespace detail {

/// A thread with a stack of at least kThreadStackBytes. It must be joined.
class Thread {
 public:
  Thread() = default;
  Thread(Thread&& other) noexcept = default;

  /// Runs f() on a new thread; returns why it could not be started, 0 if it was.
  template <class F>
  int start(F f) {
#if defined(HSM_DETAIL_POSIX_THREADS)
    pthread_attr_t attributes;
    if (const int reason = pthread_attr_init(&attributes); reason != 0) return reason;
    std::size_t bytes = 0;
    if (pthread_attr_getstacksize(&attributes, &bytes) == 0 && bytes < kThreadStackBytes)
      pthread_attr_setstacksize(&attributes, kThreadStackBytes);
    auto body = std::make_unique<F>(std::move(f));
    const auto run = [](void* given) -> void* {
      const std::unique_ptr<F> own(static_cast<F*>(given));
      (*own)();
      return nullptr;
    };
    const int reason = pthread_create(&thread_, &attributes, run, body.get());
    if (reason == 0) static_cast<void>(body.release());  // the thread's from here on
    pthread_attr_destroy(&attributes);
    return reason;
#else
    int reason = 0;
    guarded([&] { thread_ = std::thread(std::move(f)); },
            [&] { reason = static_cast<int>(std::errc::resource_unavailable_try_again); });
    return reason;
#endif
  }

  void join() {
#if defined(HSM_DETAIL_POSIX_THREADS)
    pthread_join(thread_, nullptr);
#else
    thread_.join();
#endif
  }

 private:
#if defined(HSM_DETAIL_POSIX_THREADS)
  pthread_t thread_{};
#else
  std::thread thread_;
#endif
};

}  // namespace detail
}  // namespace hsm::inline HSM_ABI
