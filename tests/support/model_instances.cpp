// SPDX-License-Identifier: MIT
//
// The language model for every scalar, compiled once; see support/models.hpp.
#include "support/models.hpp"

namespace hsm {
template class LanguageModel<float>;
template class LanguageModel<double>;
}  // namespace hsm
