// SPDX-License-Identifier: MIT
//
// The temporary files that this process is writing, in memory that a signal handler may read: a program that is
// told to end can take them away first.
//
//   extern "C" void handler(int signal) {
//     hsm::remove_temporary_files();
//     std::signal(signal, SIG_DFL);
//     std::raise(signal);
//   }
#pragma once

#include <atomic>
#include <cstddef>
#include <filesystem>
#include <string>

#include <hsm/io/system_file.hpp>

namespace hsm::inline HSM_ABI {

namespace detail {

/// The names of temporary files. More files at once than there is room for, and names longer than that, stay
/// behind when the process is ended.
class TemporaryFiles {
 public:
  using Char = std::filesystem::path::value_type;

  /// Notes a name; returns its place, or -1 if there is no room.
  static int add(const std::filesystem::path& path) {
    const auto& name = path.native();
    if (name.size() >= kLongest) return -1;
    for (std::size_t i = 0; i < kMost; ++i) {
      int expected = kFree;
      if (!places_[i].state.compare_exchange_strong(expected, kChanging)) continue;
      places_[i].process = process_number();
      name.copy(places_[i].name, name.size());
      places_[i].name[name.size()] = Char{};
      places_[i].state.store(kNamed);
      return static_cast<int>(i);
    }
    return -1;
  }

  /// Forgets the name in a place; nothing for -1.
  static void forget(int place) {
    if (place >= 0) places_[static_cast<std::size_t>(place)].state.store(kFree);
  }

  /// Removes all files of this process: a child that was forked has the names of its parent's too. Nothing here allocates
  /// or locks.
  static void remove_all() noexcept {
    const long own = process_number();
    for (Place& place : places_) {
      if (place.state.load() == kNamed && place.process == own) remove_file(place.name);
    }
  }

 private:
  static constexpr std::size_t kMost = 16, kLongest = 4096;
  static constexpr int kFree = 0, kChanging = 1, kNamed = 2;

  struct Place {
    std::atomic<int> state;  // zero at the start, as all static memory, and so kFree
    long process;
    Char name[kLongest];
  };
  static_assert(std::atomic<int>::is_always_lock_free);

  static inline Place places_[kMost];
};

}  // namespace detail

/// Removes the temporary files of every OutputFile that is open in this process, for one that ends now: what is
/// being written cannot be committed any more. May be called from a signal handler.
inline void remove_temporary_files() noexcept { detail::TemporaryFiles::remove_all(); }

}  // namespace hsm::inline HSM_ABI
