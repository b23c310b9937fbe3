// SPDX-License-Identifier: MIT
//
// What reading and decoding are verified against.
#pragma once

#include <cstdint>
#include <span>

#include <hsm/core/workspace.hpp>
#include <hsm/model/language_model.hpp>

namespace hsm::bench {

/// The logits after the last of `ids`, by the pass over all of them.
inline OwnedColumns<float> logits_of(const LanguageModel<float>& model, std::span<const std::int32_t> ids,
                                     Workspace& workspace) {
  const Index C = model.config().width, V = model.config().vocabulary, T = static_cast<Index>(ids.size());
  LanguageModel<float>::Saved record;
  model.hidden(ids, 1, T, record, workspace);
  OwnedColumns<float> logits(V, 1);
  model.logits(ConstColumns<float>(record.hidden.data() + (T - 1) * C, C, 1, Eigen::OuterStride<>(C)),
               Columns<float>(logits.data(), V, 1, Eigen::OuterStride<>(V)), workspace);
  return logits;
}

}  // namespace hsm::bench
