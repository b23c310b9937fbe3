// SPDX-License-Identifier: MIT
//
// The language model for every scalar, compiled once; see support/models.hpp. Its engines are those of the other
// sources here.
#include "support/models.hpp"

#include "attention/attention_engine.hpp"
#include "hierarchical_attention/hierarchy_engine.hpp"
#include "recurrent/recurrent_engine.hpp"
#include "shift/mixer_engines.hpp"

namespace hsm {
template class LanguageModel<float>;
template class LanguageModel<double>;
}  // namespace hsm
