// SPDX-License-Identifier: MIT
//
// Checkpoints of training runs: the bytes of a whole file. What is not refused with std::runtime_error has finite
// weights and moments, saves to a file with the same tensors and fields, and goes on by a step, or is refused by a
// sentence; what then stands can be saved and loaded again.
#pragma once

#include <stdexcept>
#include <string>
#include <vector>

#include <hsm/io/checkpoint_file.hpp>
#include <hsm/training/trainer.hpp>

#include "fuzz/fuzz_model.hpp"
#include "fuzz/property.hpp"
#include "fuzz/safetensors_fuzz.hpp"
#include "fuzz/scratch.hpp"

namespace hsm::test {

using FuzzCheckpoint = Checkpoint<FuzzModel>;

/// Texts for a run of any model whose window is short.
struct FuzzTexts {
  std::vector<std::int32_t> training, validation;
};

inline FuzzTexts fuzz_texts(Index vocabulary, Index context) {
  FuzzTexts texts;
  for (Index i = 0; i < context + 8; ++i) texts.training.push_back(static_cast<std::int32_t>(i % vocabulary));
  texts.validation.assign(texts.training.begin(), texts.training.begin() + 5);
  return texts;
}

/// One step more; false where the run is refused or has gone wrong.
inline bool train_on(FuzzCheckpoint& run) {
  constexpr Index kMost = 64;  // numbers of a file that call for hours are no finding
  const LanguageModelConfig& config = run.model.config();
  if (run.state.config.batch > kMost || config.context > kMost || config.vocabulary > kMost) return false;
  const FuzzTexts texts = fuzz_texts(config.vocabulary, config.context);
  run.state.text = TextMark(texts.training);
  run.state.validation = TextMark(texts.validation);
  Workspace workspace;
  try {
    train(run.model, run.state, std::span<const std::int32_t>(texts.training),
          std::span<const std::int32_t>(texts.validation), workspace,
          [](const TrainingProgress&) { return false; });
    return true;
  } catch (const std::invalid_argument& error) {  // rates are looked at when training begins
    require_message(error.what(), "");
  } catch (const TrainingDiverged& error) {
    require_message(error.what(), "train: ");
  }
  return false;
}

/// Returns whether `input` is a checkpoint.
inline bool fuzz_checkpoint(Input input) {
  std::vector<SafetensorsFile> file;
  std::vector<FuzzCheckpoint> runs;
  const bool read = accepts<std::runtime_error>("file: ", [&] {
    file.push_back(SafetensorsFile::parse(bytes_of(input), "file"));
    runs.push_back(read_checkpoint<FuzzModel>(file[0]));
  });
  if (!read) return false;

  FuzzCheckpoint& run = runs[0];
  const auto finite = [](std::string_view, const auto& tensor) {
    require(tensor.allFinite(), "a number must be finite");
  };
  detail::visit_checkpoint(finite, std::as_const(run.model), std::as_const(run.state));
  const auto path = scratch_file("checkpoint"), again = scratch_file("again");
  save_checkpoint(path, run.model, run.state);
  const SafetensorsFile saved = SafetensorsFile::load(path);
  require_same_tensors(file[0], saved);
  const FuzzCheckpoint loaded = read_checkpoint<FuzzModel>(saved);
  save_checkpoint(again, loaded.model, loaded.state);
  require_same_file(saved, SafetensorsFile::load(again));

  if (!train_on(run)) return true;
  // Large values may have passed the range of float.
  if (!accepts<std::runtime_error>(path.string() + ": ",
                                   [&] { save_checkpoint(path, run.model, run.state); }))
    return true;
  require(load_checkpoint<FuzzModel>(path).state.progress.step == run.state.progress.step,
          "a run that went on must load");
  return true;
}

}  // namespace hsm::test
