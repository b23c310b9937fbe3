// SPDX-License-Identifier: MIT
//
// Hierarchical Shift Mixing (arXiv 2601.22852): the mixers, their schedules and the engine that runs them.
// Needs Eigen alone. Threads and the analysis of a schedule have headers of their own,
// core/threaded_executor.hpp and schedule/coverage.hpp, since not every unit needs them; so have attention,
// the language model, training and files, in attention/, model/, training/ and io/.
#pragma once

#include <hsm/core/tokens.hpp>
#include <hsm/core/workspace.hpp>
#include <hsm/schedule/cyclic.hpp>
#include <hsm/schedule/dyadic.hpp>
#include <hsm/schedule/explicit.hpp>
#include <hsm/schedule/geometric.hpp>
#include <hsm/schedule/head_rotated.hpp>
#include <hsm/schedule/reversed.hpp>
#include <hsm/shift/mixer.hpp>
#include <hsm/shift/policies.hpp>
#include <hsm/shift/stack.hpp>
#include <hsm/version.hpp>
