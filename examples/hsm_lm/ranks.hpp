// SPDX-License-Identifier: MIT
//
// The processes ("ranks") of mpirun -np N hsm_lm train: rank 0 alone writes and prints, and whatever goes wrong is one
// sentence and one exit code. Started otherwise, or by mpirun as one process, the program is alone and MPI is not touched.
//
// A rank that fails tells the others where they wait for it: before the first step, in ready(), and at the end, in
// leave(). In between, where they may wait for a sum, it ends them.
#pragma once

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <memory>
#include <stdexcept>
#include <string>

#ifdef HSM_USE_MPI
#include <fcntl.h>
#include <unistd.h>

#include <hsm/distributed/data_parallel.hpp>
#endif

#include "examples/hsm_lm/commands.hpp"
#include "examples/support/process.hpp"

namespace hsm::examples {

/// What mpirun, or another that starts ranks, says of how many it has started; 1 where nothing did, 0 for some number.
inline int started_ranks() {
  for (const char* name : {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE"})
    if (const char* text = std::getenv(name)) return std::atoi(text);
  return std::getenv("PMIX_RANK") != nullptr ? 0 : 1;
}

/// The ranks of this program; there is one object, ranks().
class Ranks {
 public:
  /// Where the program may be one of several ranks; collective, and so is what follows. Throws std::runtime_error for
  /// ranks that were not built alike, or none that could be.
  void start() {
    if (started_ranks() == 1) return;
#ifdef HSM_USE_MPI
    int threads = 0, rank = 0;
    hsm::detail::check_mpi(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &threads),
                           "MPI_Init_thread");
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    if (rank > 0) mute();
    all_ = std::make_unique<Communicator>();
    phase_ = Phase::kSetup;
#else
    if (started_ranks() > 1)
      throw std::runtime_error("to train over " + std::to_string(started_ranks()) +
                               " ranks hsm_lm must be built with MPI (-DHSM_MPI=ON), got one without");
#endif
  }

#ifdef HSM_USE_MPI
  /// All of them; null where the program is alone.
  Communicator* all() { return all_.get(); }
  bool first() const { return !all_ || all_->rank() == 0; }
  int size() const { return all_ ? all_->size() : 1; }

  /// Until every rank is ready to train. Throws Exit where one has failed.
  void ready() {
    if (!all_) return;
    const Outcome outcome = agree({});
    phase_ = Phase::kTogether;
    if (outcome.speaker < 0) return;
    phase_ = Phase::kOver;
    throw Exit{outcome.code};
  }
  /// From now on a rank may fail alone.
  void apart() { phase_ = all_ ? Phase::kApart : phase_; }
  /// From now on all of them come to leave().
  void together() { phase_ = all_ ? Phase::kTogether : phase_; }

  /// The signal that one of them has got; 0 if none has.
  int signal(int own) {
    if (!all_) return own;
    int one = 0;
    for (const int other : all_->gather(own))
      if (one == 0) one = other;
    return one;
  }

  /// Has say("") tell an error of this program, or of another rank that fails as well.
  template <class Say>
  void tell(Say&& say) {
    if (phase_ == Phase::kSetup || phase_ == Phase::kTogether) {
      const Outcome outcome = agree({.code = kUserError, .failed = true});
      phase_ = Phase::kOver;
      if (outcome.speaker != all_->rank()) return;
      unmute();
      say(outcome.all || all_->rank() == 0 ? std::string() : name());
    } else if (phase_ == Phase::kApart) {
      unmute();
      say(name());
      MPI_Abort(all_->mpi(), kUserError);
    } else {
      say(std::string());
    }
  }

  /// The end of the program; the exit code of all.
  int leave(int code) {
    if (!all_) return finalized(code);
    // mpirun ends what has not ended once another rank has.
    for (const int end : kEndSignals) on_signal(end, SIG_IGN);
    if (phase_ != Phase::kOver) code = agree({.code = code}).code;
    phase_ = Phase::kOver;
    all_.reset();
    return finalized(code);
  }

 private:
  /// What a failure of this rank means for the others.
  enum class Phase { kOver, kSetup, kTogether, kApart };
  struct Own {
    int code = 0;
    bool failed = false;
  };
  struct Outcome {
    int code = 0;      ///< the largest
    int speaker = -1;  ///< the first that has failed
    bool all = true;   ///< whether all have
  };

  Outcome agree(const Own& own) {
    Outcome outcome;
    int rank = 0;
    for (const Own& each : all_->gather(own)) {
      outcome.code = (std::max)(outcome.code, each.code);
      if (each.failed && outcome.speaker < 0) outcome.speaker = rank;
      outcome.all = outcome.all && each.failed;
      ++rank;
    }
    return outcome;
  }
  std::string name() const {
    return "rank " + std::to_string(all_->rank()) + " of " + std::to_string(all_->size()) + ": ";
  }
  static int finalized(int code) {
    int ready = 0, over = 0;
    if (MPI_Initialized(&ready) == MPI_SUCCESS && ready && MPI_Finalized(&over) == MPI_SUCCESS && !over)
      MPI_Finalize();
    return code;
  }
  void mute() {
    const int nowhere = ::open("/dev/null", O_WRONLY | O_CLOEXEC);
    errors_ = ::fcntl(2, F_DUPFD_CLOEXEC, 3);
    static_cast<void>(::dup2(nowhere, 1));
    static_cast<void>(::dup2(nowhere, 2));
    static_cast<void>(::close(nowhere));
  }
  void unmute() {
    if (errors_ >= 0) static_cast<void>(::dup2(errors_, 2));
  }

  std::unique_ptr<Communicator> all_;
  Phase phase_ = Phase::kOver;
  int errors_ = -1;
#else
  bool first() const { return true; }
  int size() const { return 1; }
  void ready() {}
  void apart() {}
  void together() {}
  int signal(int own) { return own; }
  template <class Say>
  void tell(Say&& say) {
    say(std::string());
  }
  int leave(int code) { return code; }
#endif
};

inline Ranks& ranks() {
  static Ranks all;
  return all;
}

}  // namespace hsm::examples
