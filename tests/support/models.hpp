// SPDX-License-Identifier: MIT
//
// The language model is what takes a compiler longest: it is compiled once for all test programs, in
// support/model_instances.cpp. A test of models includes this instead of <hsm/model/language_model.hpp>.
#pragma once

#include <hsm/model/language_model.hpp>

namespace hsm {
extern template class LanguageModel<float>;
extern template class LanguageModel<double>;
}  // namespace hsm
