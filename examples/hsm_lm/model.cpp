// SPDX-License-Identifier: MIT

#include "examples/hsm_lm/model.hpp"

template class hsm::LanguageModel<float>;
