// SPDX-License-Identifier: MIT
//
// The test kit for policies and layers of one's own: tries one and tells what is wrong, in one sentence. It needs no test
// framework, and goes with every one:
//
//   hsm::check_policy(Decay<double>(5), {1, 3})        a mixing policy, at these shifts
//   hsm::check_layer(FadingSum<double>(4))             any layer that mixes tokens
//
//   const hsm::CheckResult result = hsm::check_policy(...);      if (!result) std::puts(result.what().c_str());
//   EXPECT_EQ(hsm::check_policy(...).what(), "");                with GoogleTest
//
// Of three random sequences, the same ones every time, it checks that
//
//   results      forward is finite, writes all of y and gives the same bits every time; scratch comes as NaN
//   causality    a NaN at token t changes no bit of an output before t; one document or stream changes no bit of another
//   modes        packed, step, extend in chunks, on chosen streams, and step after fill give what forward gives
//   buffers      so they do on buffers with gaps between tokens and sequences, and with three workers that run tasks from
//                the last to the first
//   states       copied, forked, reset, rewound (where they can be) and taken up again they go on as they must; one that
//                is spoiled is not whole until it is reset
//   gradients    of every tensor that visit names and of x are those of central differences; dx is overwritten, the
//                gradients of tensors are added to
//   chunks       gradients joined by state_gradient are those of the whole sequence, also where tokens were taken back in
//                between; a state_gradient of another number of streams is refused
//   a policy     forward_in_place, where it says in_place, and channel_weights, where it has them, agree with forward
//
// Use double where the layer can have it: its differences are right to 1e-6 of the largest of a tensor, those of float
// to 2e-2. What central differences cannot do they do not do here: a value within 1e-5 of a kink (max, abs) fails.
// A tensor that visit does not name cannot be found: nothing knows of it. Neither can a wrong formula whose adjoint fits
// it; compare with an oracle of your own. What reads or writes where there is nothing, such as an adjoint that does not ask
// whether a tap is present, ends the program and not in a sentence: without NDEBUG an assertion of Eigen says where.
#pragma once

#include <hsm/testing/check_layer.hpp>
#include <hsm/testing/check_policy.hpp>
#include <hsm/testing/check_result.hpp>
