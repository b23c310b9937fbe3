// SPDX-License-Identifier: MIT
//
// The main function of a program that mpirun starts:
//
//   int main(int argc, char** argv) {
//     return hsm::run_ranks(argc, argv, [](hsm::Communicator& ranks) { ...; return 0; });
//   }
//
// MPI is initialised before, and ended behind. An exception on any rank ends all of them, with its sentence: the others
// may wait for a message that will never come.
#pragma once

#include <cstdio>
#include <exception>
#include <string>

#include <hsm/distributed/communicator.hpp>

namespace hsm::inline HSM_ABI {

/// Runs body(communicator of all ranks), which returns what main returns. What it throws is written to stderr, "rank 2
/// of 4: " before it, and ends all ranks with status 1. Threads of the program may compute; MPI is called by one.
template <class Body>
int run_ranks(int& argc, char**& argv, Body&& body) {
  int threads = 0;
  detail::check_mpi(MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &threads), "MPI_Init_thread");
  int rank = 0, size = 1, result = 1;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  bool threw = true;
  std::string error;
  try {
    Communicator ranks(MPI_COMM_WORLD);
    result = body(ranks);
    threw = false;
  } catch (const std::exception& thrown) {
    error = thrown.what();
  } catch (...) {
    error = "what was thrown is no std::exception";
  }
  if (threw) {
    std::fprintf(stderr, "rank %d of %d: %s\n", rank, size, error.c_str());
    std::fflush(stderr);
    MPI_Abort(MPI_COMM_WORLD, 1);
  }
  MPI_Finalize();
  return result;
}

}  // namespace hsm::inline HSM_ABI
