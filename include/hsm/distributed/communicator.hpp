// SPDX-License-Identifier: MIT
//
// The processes ("ranks") that work on one thing, over MPI, and what goes between them. A thin layer over one MPI
// communicator of its own: whatever MPI says is wrong becomes one exception, and what is sent is counted, so that a
// test can hold it against a formula. Functions marked collective must be called by every rank, in the same order.
//
// Values travel as their bytes: all ranks have processors of one kind. The first thing that a Communicator does is to
// refuse programs that were not built alike. A message of any length goes, in pieces of at most 2^30 bytes. One thread
// of a rank uses a communicator at a time. Errors: std::runtime_error where MPI fails.
#pragma once

#include <mpi.h>

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include <hsm/distributed/mpi_calls.hpp>

namespace hsm::inline HSM_ABI {

/// Ranks, and what goes between them; see the file comment.
class Communicator {
 public:
  /// Collective. The ranks of `of`, apart from other messages between them. Throws std::runtime_error, the same
  /// sentence on every rank, where they run programs of different versions of hsm, or compiled for different vectors,
  /// products or sizes; and where MPI was not initialised (hsm::run_ranks does that).
  explicit Communicator(MPI_Comm of = MPI_COMM_WORLD) {
    int ready = 0;
    detail::check_mpi(MPI_Initialized(&ready), "MPI_Initialized");
    if (!ready) {
      detail::raise<std::runtime_error>(
          "Communicator: MPI must be initialised, by hsm::run_ranks or MPI_Init, got a program without");
    }
    detail::check_mpi(MPI_Comm_dup(of, &comm_), "MPI_Comm_dup");
    detail::check_mpi(MPI_Comm_set_errhandler(comm_, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
    detail::check_mpi(MPI_Comm_rank(comm_, &rank_), "MPI_Comm_rank");
    detail::check_mpi(MPI_Comm_size(comm_, &size_), "MPI_Comm_size");
    check_agreement("the build", detail::build_text());
    traffic_ = {};
  }
  /// Collective over the ranks of `of`: those that give the same `group`, numbered in their order there.
  Communicator(const Communicator& of, int group) {
    detail::check_mpi(MPI_Comm_split(of.comm_, group, of.rank_, &comm_), "MPI_Comm_split");
    detail::check_mpi(MPI_Comm_set_errhandler(comm_, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
    detail::check_mpi(MPI_Comm_rank(comm_, &rank_), "MPI_Comm_rank");
    detail::check_mpi(MPI_Comm_size(comm_, &size_), "MPI_Comm_size");
  }
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;
  ~Communicator() {
    int over = 0;
    if (comm_ != MPI_COMM_NULL && MPI_Finalized(&over) == MPI_SUCCESS && !over) MPI_Comm_free(&comm_);
  }

  /// The number of this rank, from 0 on.
  int rank() const { return rank_; }
  /// How many ranks there are.
  int size() const { return size_; }
  /// What this rank has sent since the communicator was made.
  const Traffic& traffic() const { return traffic_; }
  /// The communicator of MPI, for what this class does not do.
  MPI_Comm mpi() const { return comm_; }

  /// Messages under way. Memory that they read or write must stay until wait(); what still is under way when it is
  /// destroyed is waited for, but for messages to this rank where something threw: what would come may wait for what this
  /// rank has not sent. One holds what comes or what goes, not both.
  class Pending {
   public:
    Pending() = default;
    Pending(const Pending&) = delete;
    Pending& operator=(const Pending&) = delete;
    ~Pending() {
      for (MPI_Request& request : requests_) {
        if (receives_ && std::uncaught_exceptions() > 0 && request != MPI_REQUEST_NULL) MPI_Cancel(&request);
      }
      if (!requests_.empty())
        MPI_Waitall(static_cast<int>(requests_.size()), requests_.data(), MPI_STATUSES_IGNORE);
    }
    /// Until all have arrived, or their memory can be used again. Throws std::runtime_error where one fails.
    void wait() {
      const int code = requests_.empty() ? MPI_SUCCESS
                                         : MPI_Waitall(static_cast<int>(requests_.size()), requests_.data(),
                                                       MPI_STATUSES_IGNORE);
      clear();
      detail::check_mpi(code, "MPI_Waitall");
    }
    /// Whether they have, without waiting for it. MPI goes on with what is under way only while one of its functions is
    /// called, such as this one. Throws as wait().
    bool done() {
      int over = 1;
      if (!requests_.empty()) {
        detail::check_mpi(
            MPI_Testall(static_cast<int>(requests_.size()), requests_.data(), &over, MPI_STATUSES_IGNORE),
            "MPI_Testall");
      }
      if (over) clear();
      return over != 0;
    }

   private:
    friend class Communicator;
    void clear() {
      requests_.clear();
      receives_ = false;
    }
    std::vector<MPI_Request> requests_;
    bool receives_ = false;
  };

  /// Begins to send `values` to a rank. Nothing is sent where there are none.
  template <detail::Sendable T>
  void send(std::span<const T> values, int to, Pending& pending) {
    const auto bytes = std::as_bytes(values);
    for_each_piece(bytes.size(), [&](std::size_t first, int count) {
      detail::check_mpi(MPI_Isend(bytes.data() + first, count, MPI_BYTE, to, kTag, comm_, &begin(pending)),
                        "MPI_Isend");
      traffic_.messages += 1;
      traffic_.bytes += count;
    });
  }
  /// Begins to receive as many values as `values` has from a rank that sends so many.
  template <detail::Sendable T>
  void receive(std::span<T> values, int from, Pending& pending) {
    const auto bytes = std::as_writable_bytes(values);
    pending.receives_ = true;
    for_each_piece(bytes.size(), [&](std::size_t first, int count) {
      detail::check_mpi(MPI_Irecv(bytes.data() + first, count, MPI_BYTE, from, kTag, comm_, &begin(pending)),
                        "MPI_Irecv");
    });
  }

  /// Collective. `values` become their sums over all ranks, the same bits on every rank.
  void sum(std::span<float> values) { reduce(values, MPI_FLOAT, MPI_SUM); }
  /// The same in double.
  void sum(std::span<double> values) { reduce(values, MPI_DOUBLE, MPI_SUM); }
  /// The same for counts.
  void sum(std::span<std::int64_t> values) { reduce(values, MPI_INT64_T, MPI_SUM); }
  /// Collective. Begins such a sum. Ranks begin all of them in the same order; the bits do not depend on when.
  template <std::floating_point T>
  void begin_sum(std::span<T> values, Pending& pending) {
    const MPI_Datatype type = std::same_as<T, float> ? MPI_FLOAT : MPI_DOUBLE;
    for_each_piece(values.size_bytes(), [&](std::size_t first, int bytes) {
      const int count = bytes / static_cast<int>(sizeof(T));
      detail::check_mpi(MPI_Iallreduce(MPI_IN_PLACE, values.data() + first / sizeof(T), count, type, MPI_SUM,
                                       comm_, &begin(pending)),
                        "MPI_Iallreduce");
      count_collective(bytes);
    });
  }

  /// Collective. `values` become those of rank `root`.
  template <detail::Sendable T>
  void broadcast(std::span<T> values, int root) {
    const auto bytes = std::as_writable_bytes(values);
    for_each_piece(bytes.size(), [&](std::size_t first, int count) {
      detail::check_mpi(MPI_Bcast(bytes.data() + first, count, MPI_BYTE, root, comm_), "MPI_Bcast");
      count_collective(rank_ == root ? count : 0);
    });
  }
  /// Collective. The value of every rank, by rank.
  template <detail::Sendable T>
  std::vector<T> gather(const T& value) {
    std::vector<T> all(static_cast<std::size_t>(size_));
    constexpr int kBytes = static_cast<int>(sizeof(T));
    detail::check_mpi(MPI_Allgather(&value, kBytes, MPI_BYTE, all.data(), kBytes, MPI_BYTE, comm_),
                      "MPI_Allgather");
    count_collective(kBytes);
    return all;
  }

  /// Collective. Throws std::runtime_error, the same sentence on every rank, unless `text` is the same on all: "every
  /// rank must have the build of rank 0, 'hsm 0.1.0 ...', got 'hsm 0.2.0 ...' on rank 3".
  void check_agreement(const char* what, const std::string& text) {
    std::string first = text;
    auto length = static_cast<std::uint64_t>(text.size());
    broadcast(std::span(&length, 1), 0);
    first.resize(static_cast<std::size_t>(length));
    broadcast(std::span<char>(first), 0);
    std::int64_t other = first == text ? size_ : rank_;
    reduce(std::span(&other, 1), MPI_INT64_T, MPI_MIN);
    if (other == size_) return;
    const int from = static_cast<int>(other);
    std::string got = text;
    length = static_cast<std::uint64_t>(text.size());
    broadcast(std::span(&length, 1), from);
    got.resize(static_cast<std::size_t>(length));
    broadcast(std::span<char>(got), from);
    detail::raise<std::runtime_error>("Communicator: every rank must have " + std::string(what) +
                                      " of rank 0, '" + first + "', got '" + got + "' on rank " +
                                      std::to_string(from));
  }

 private:
  static constexpr int kTag = 0;

  MPI_Request& begin(Pending& pending) { return pending.requests_.emplace_back(MPI_REQUEST_NULL); }
  template <class F>
  static void for_each_piece(std::size_t bytes, F&& f) {
    constexpr auto kMost = static_cast<std::size_t>(detail::kMessageBytes);
    for (std::size_t first = 0; first < bytes; first += kMost)
      f(first, static_cast<int>((std::min)(kMost, bytes - first)));
  }
  void count_collective(Index bytes) {
    traffic_.collective_calls += 1;
    traffic_.collective_bytes += bytes;
  }
  template <class T>
  void reduce(std::span<T> values, MPI_Datatype type, MPI_Op operation) {
    for_each_piece(values.size_bytes(), [&](std::size_t first, int bytes) {
      const int count = bytes / static_cast<int>(sizeof(T));
      detail::check_mpi(
          MPI_Allreduce(MPI_IN_PLACE, values.data() + first / sizeof(T), count, type, operation, comm_),
          "MPI_Allreduce");
      count_collective(bytes);
    });
  }

  MPI_Comm comm_ = MPI_COMM_NULL;
  int rank_ = 0, size_ = 1;
  Traffic traffic_;
};

}  // namespace hsm::inline HSM_ABI
