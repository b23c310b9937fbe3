// SPDX-License-Identifier: MIT
//
// Scratch memory and the executor, owned by the caller: one Workspace per calling thread serves any number of
// mixers and models. Scratch is a stack: a Frame remembers where it was opened and gives everything taken
// since back when it closes. Memory grows on first use and is kept, so a call that has run once allocates
// nothing the next time.
#pragma once

#include <cstddef>
#include <cstring>
#include <limits>
#include <memory>
#include <new>
#include <vector>

#include <hsm/core/executor.hpp>
#include <hsm/core/types.hpp>

namespace hsm::inline HSM_ABI {

/// Whether results that leave the cache are written by non-temporal stores. The bits of results are the same either way;
/// gradients of the parameters of (a,b) and channel are sums in another order, within their bound.
enum class Stores { kAutomatic, kCached, kNontemporal };

/// Scratch + executor. Not for two threads at once; neither copied nor moved.
class Workspace {
 public:
  /// Serial.
  Workspace() = default;
  /// Runs on `executor`, which must outlive the workspace.
  explicit Workspace(Executor& executor) : executor_(&executor) {}

  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;

  /// Who runs the work.
  Executor& executor() { return executor_ ? *executor_ : serial_; }

  /// How results are stored; for tests and benchmarks, the default decides by size.
  Stores stores = Stores::kAutomatic;

  /// Depth-first execution works on so many tokens at a time that what they need fits into this many bytes of
  /// cache: in a mixer with products, a stack of mixers, and the language model reading a text. Other sizes
  /// change no bit of (a,b) and channel, and the rest within their bounds.
  Index chunk_bytes = Index{4} << 20;

  /// Fills all scratch with NaN as it is handed out, to show reads of what was never written. For tests.
  bool poison = false;

  /// Bytes held.
  std::size_t bytes() const {
    std::size_t sum = 0;
    for (const Buffer& buffer : buffers_) sum += buffer.size;
    return sum;
  }

  /// Lends scratch until it is destroyed. Frames nest like calls.
  class Frame {
   public:
    /// Opens a frame on top of the stack of `workspace`.
    explicit Frame(Workspace& workspace)
        : workspace_(workspace), buffer_(workspace.buffer_), used_(workspace.used_) {
      ++workspace_.depth_;
    }
    ~Frame() { workspace_.release(buffer_, used_); }
    Frame(const Frame&) = delete;
    Frame& operator=(const Frame&) = delete;

    /// `times` times n uninitialised values, such as n for each worker, aligned to 64 bytes. Throws std::bad_alloc for
    /// more than memory can hold, also where an Index could not count them.
    template <class Value>
    Value* take(std::ptrdiff_t n, std::ptrdiff_t times = 1) {
      constexpr std::ptrdiff_t kMost = (std::numeric_limits<std::ptrdiff_t>::max)();
      const std::ptrdiff_t all = times > 0 && n > kMost / times ? kMost : n * times;
      return static_cast<Value*>(workspace_.allocate(bytes_of(all, sizeof(Value))));
    }

    /// An uninitialised block (rows, columns) without gaps. Throws as take does.
    template <class Scalar>
    Columns<Scalar> columns(Index rows, Index count) {
      return Columns<Scalar>(take<Scalar>(rows, count), rows, count, Eigen::OuterStride<>(rows));
    }

   private:
    Workspace& workspace_;
    std::size_t buffer_, used_;
  };

 private:
  static constexpr std::size_t kAlignment = 64;

  /// The bytes of n values; where these are more than half of all addresses, as many as that, which no allocation gives.
  static std::size_t bytes_of(std::ptrdiff_t n, std::size_t size) {
    constexpr std::size_t kMost = (std::numeric_limits<std::size_t>::max)() / 2 / kAlignment * kAlignment;
    return n < 0 || static_cast<std::size_t>(n) > kMost / size ? kMost : static_cast<std::size_t>(n) * size;
  }

  struct Free {
    void operator()(std::byte* p) const { ::operator delete[](p, std::align_val_t(kAlignment)); }
  };
  using Memory = std::unique_ptr<std::byte[], Free>;
  struct Buffer {
    Memory memory;
    std::size_t size;
  };

  void* allocate(std::size_t bytes) {
    const std::size_t size = (bytes + kAlignment - 1) / kAlignment * kAlignment;
    while (buffer_ < buffers_.size() && buffers_[buffer_].size - used_ < size) {
      ++buffer_;
      used_ = 0;
    }
    if (buffer_ == buffers_.size()) add(size < kSmallest ? kSmallest : size);
    std::byte* start = buffers_[buffer_].memory.get() + used_;
    used_ += size;
    if (poison) std::memset(start, 0xFF, size);
    return start;
  }

  void add(std::size_t size) {
    buffers_.push_back({Memory(new (std::align_val_t(kAlignment)) std::byte[size]), size});
  }

  void release(std::size_t buffer, std::size_t used) {
    buffer_ = buffer;
    used_ = used;
    if (--depth_ == 0 &&
        buffers_.size() > 1) {  // one buffer of the whole size serves the next call without gaps
      const std::size_t size = bytes();
      buffers_.clear();
      buffer_ = used_ = 0;
      // Where there is no such buffer, nothing is held; the next call asks for what it needs and reports what it
      // cannot get.
      void* memory = ::operator new[](size, std::align_val_t(kAlignment), std::nothrow);
      if (memory) buffers_.push_back({Memory(static_cast<std::byte*>(memory)), size});
    }
  }

  static constexpr std::size_t kSmallest = std::size_t{1} << 16;

  SerialExecutor serial_;
  Executor* executor_ = nullptr;
  std::vector<Buffer> buffers_;
  std::size_t buffer_ = 0, used_ = 0;
  int depth_ = 0;
};

}  // namespace hsm::inline HSM_ABI
