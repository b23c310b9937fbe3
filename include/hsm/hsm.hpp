// SPDX-License-Identifier: MIT
//
// Hierarchical Shift Mixing (arXiv 2601.22852): the mixers, their schedules and the engine that runs them.
// Needs Eigen alone. Threads and the analysis of a schedule have headers of their own,
// core/threaded_executor.hpp and schedule/coverage.hpp, since not every unit needs them; so have attention,
// the language model, training and files, in attention/, model/, training/ and io/.
#pragma once

#include <hsm/core/tokens.hpp>
#include <hsm/core/workspace.hpp>
#include <hsm/mixing/mixer.hpp>
#include <hsm/mixing/policies/channel_pair.hpp>
#include <hsm/mixing/policies/fusion.hpp>
#include <hsm/mixing/policies/gated.hpp>
#include <hsm/mixing/policies/gated_pair.hpp>
#include <hsm/mixing/policies/matrix_pair.hpp>
#include <hsm/mixing/policies/scalar_pair.hpp>
#include <hsm/mixing/policies/softmax_local.hpp>
#include <hsm/mixing/stack.hpp>
#include <hsm/schedule/cyclic.hpp>
#include <hsm/schedule/dyadic.hpp>
#include <hsm/schedule/explicit.hpp>
#include <hsm/schedule/geometric.hpp>
#include <hsm/schedule/head_rotated.hpp>
#include <hsm/schedule/reversed.hpp>
#include <hsm/version.hpp>
