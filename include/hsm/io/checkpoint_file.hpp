// SPDX-License-Identifier: MIT
//
// A training run that can be gone on from, as one safetensors file: with the same texts another process has the
// same bits as a run that was never stopped. In the metadata
//
//   format "hsm-checkpoint"   version "1"
//   config                    of the model, a JSON object (io/model_config.hpp)
//   training.*                the fields of TrainingConfig
//   progress.*                those of TrainingProgress
//   state.*                   the generators, counts and text marks of TrainingState
//
// and as tensors of the model's scalar
//
//   the weights under the names of a model file
//   optimizer.first_moment.*, optimizer.second_moment.*, good.*, best.* (where the best model is kept)
//
// Of numbers that are not finite, an infinite training.clip alone is written and read. Saving replaces a file whole or not at all; it takes 4
// or 5 times the bytes of a model file. Loading trusts nothing: the config is compared with the shapes in the file
// before memory of that size is taken, each tensor must be there once, alone and in its shape, every field must be
// there and within its bounds. Whether the texts are those of the run is for `train` to say. Errors:
// std::runtime_error `file: what was expected, what came`.
#pragma once

#include <filesystem>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

#include <hsm/io/checkpoint_fields.hpp>
#include <hsm/io/model_file.hpp>
#include <hsm/training/training_state.hpp>

namespace hsm::inline HSM_ABI {

/// What the metadata of a checkpoint says it is.
inline constexpr std::string_view kCheckpointFormat = "hsm-checkpoint";
/// The version of the layout; files of another one are refused.
inline constexpr std::string_view kCheckpointVersion = "1";

/// What a checkpoint holds: train(model, state, ...) goes on with both.
template <class Model>
struct Checkpoint {
  Model model;                 ///< the weights after the last step
  TrainingState<Model> state;  ///< where the run stands
};

namespace detail {

/// Calls f(name, field) for the fields of a state that are neither tensors nor structs of their own.
template <class F, class State>
void visit_state_fields(F&& f, State& state) {
  f("text_tokens", state.text.tokens);
  f("text_hash", state.text.hash);
  f("validation_tokens", state.validation.tokens);
  f("validation_hash", state.validation.hash);
  f("good_steps", state.good_steps);
  f("stale", state.stale);
  f("smoothed", state.smoothed);
  f("validation_seconds", state.validation_seconds);
  f("validation_due", state.validation_due);
}

/// Calls f(name, tensor) for the weights and for the tensors of the state.
template <class F, class Model, class State>
void visit_checkpoint(F&& f, Model& model, State& state) {
  std::remove_const_t<Model>::visit(f, model);
  std::remove_const_t<State>::visit(f, state);
}

/// Throws std::runtime_error, which `source` begins, where a mean of squares is negative.
template <class Model>
void check_second_moment(const std::string& source, const Model& moment) {
  Model::visit(
      [&](std::string_view name, const auto& tensor) {
        for (Index i = 0; i < tensor.size(); ++i) {
          if (tensor.data()[i] < 0)
            throw std::runtime_error(
                source + ": tensor " + in_quotes("optimizer.second_moment." + std::string(name)) +
                " must be at least 0, got " + std::to_string(tensor.data()[i]) + " at " + std::to_string(i));
        }
      },
      moment);
}

/// What the fields of a state, its number of updates and whether it has a best model say of each other. Throws
/// std::runtime_error, which `source` begins.
template <class Model>
void check_state_fields(const std::string& source, const TrainingState<Model>& state, Index updates,
                        bool best) {
  const TrainingConfig& config = state.config;
  const TrainingProgress& p = state.progress;
  try {
    check_training(config);
  } catch (const std::invalid_argument& error) {
    throw std::runtime_error(source + ": does not describe a run: " + error.what());
  }
  const auto expect = [&](bool good, const char* what, const std::string& expected, const std::string& got) {
    if (!good) throw std::runtime_error(source + ": " + what + " must be " + expected + ", got " + got);
  };
  expect(config.minutes > 0 || p.step <= config.steps, "progress.step",
         "at most training.steps, " + field_text(config.steps), field_text(p.step));
  constexpr Index kMost = Index{1} << (kIndexBits - 2);  // a run by the clock counts on from there
  expect(p.step <= kMost, "progress.step", "at most 2^" + std::to_string(kIndexBits - 2), field_text(p.step));
  expect(state.stale <= p.step, "state.stale", "at most progress.step, " + field_text(p.step),
         field_text(state.stale));
  expect(p.fraction >= 0 && p.fraction <= 1, "progress.fraction", "in [0, 1]", field_text(p.fraction));
  expect(p.finished || state.validation_due || config.minutes > 0 || p.step < config.steps,
         "progress.finished", "true after the last step", field_text(p.finished));
  expect(state.validation_seconds >= 0, "state.validation_seconds", "at least 0",
         field_text(state.validation_seconds));
  expect(state.good_steps <= p.step, "state.good_steps", "at most progress.step, " + field_text(p.step),
         field_text(state.good_steps));
  expect(p.best_step <= p.step, "progress.best_step", "at most progress.step, " + field_text(p.step),
         field_text(p.best_step));
  expect(p.seconds >= 0, "progress.seconds", "at least 0", field_text(p.seconds));
  expect(updates == p.step, "state.updates", "progress.step, " + field_text(p.step), field_text(updates));
  if (best != (config.keeps_best() && p.best_loss)) {
    throw std::runtime_error(source + ": state.best must say whether there is a best model to keep, got " +
                             field_text(best));
  }
}

}  // namespace detail

/// Writes the run that stands at `model` and `state` to `path`. Throws std::runtime_error, with an existing file
/// untouched, if the file cannot be written, a number is not finite or the state is none that load_checkpoint takes, and
/// std::invalid_argument if a tensor has not the size that the config gives it, the state is that of another model or the
/// optimizer is not that of the config.
template <class Model>
void save_checkpoint(const std::filesystem::path& path, const Model& model,
                     const TrainingState<Model>& state) {
  const std::string name_of_file = detail::path_text(path);
  model.check_tensors("save_checkpoint");
  state.check_model("save_checkpoint", model);
  state.check_optimizer("save_checkpoint");
  state.good.check_tensors("save_checkpoint");
  if (state.best) state.best->check_tensors("save_checkpoint");
  SafetensorsWriter writer;
  writer.set_metadata("format", std::string(kCheckpointFormat));
  writer.set_metadata("version", std::string(kCheckpointVersion));
  writer.set_metadata("config", config_to_json(model.config()));
  TrainingConfig::visit(detail::field_writer(writer, name_of_file, "training"), state.config);
  TrainingProgress::visit(detail::field_writer(writer, name_of_file, "progress"), state.progress);
  const auto write = detail::field_writer(writer, name_of_file, "state");
  detail::visit_state_fields(write, state);
  write("updates", state.optimizer.steps());
  write("windows", state.windows.state());
  write("dropout", state.dropout.state());
  write("best", state.best.has_value());
  detail::check_state_fields(name_of_file, state, state.optimizer.steps(), state.best.has_value());
  const auto add = [&](std::string_view name, const auto& tensor) {
    using Scalar = typename std::remove_cvref_t<decltype(tensor)>::Scalar;
    if (!detail::all_finite(tensor)) {
      throw std::runtime_error(name_of_file + ": tensor " + detail::in_quotes(name) +
                               " must hold finite numbers to be saved, got NaN or infinity");
    }
    writer.add(std::string(name), detail::file_shape(tensor),
               std::span<const Scalar>(tensor.data(), static_cast<std::size_t>(tensor.size())));
  };
  detail::visit_checkpoint(add, model, state);
  writer.write(path);
}

/// The checkpoint in a file that is already in memory. Throws as load_checkpoint does.
template <class Model>
Checkpoint<Model> read_checkpoint(const SafetensorsFile& from) {
  detail::FileChecks file(from);
  file.expect_metadata("format", kCheckpointFormat);
  file.expect_metadata("version", kCheckpointVersion);
  LanguageModelConfig config = detail::ModelConfigReader(file.metadata("config"), from.source()).read();
  TrainingConfig training;
  TrainingConfig::visit(detail::field_reader(file, "training"), training);
  const auto read = detail::field_reader(file, "state");
  std::uint64_t windows = 0, dropout = 0;
  Index updates = 0;
  bool best = false;
  read("windows", windows);
  read("dropout", dropout);
  read("updates", updates);
  read("best", best);
  try {
    config.layers = detail::recipe_of_file(config, static_cast<const Model*>(nullptr));
    detail::check_model_sizes(from, config, static_cast<const Model*>(nullptr));
    Random random(1);
    Model model(config, random);
    TrainingState<Model> state(model, training, {}, {});
    TrainingProgress::visit(detail::field_reader(file, "progress"), state.progress);
    detail::visit_state_fields(read, state);
    detail::check_state_fields(from.source(), state, updates, best);
    state.windows = Random(windows);
    state.dropout = Random(dropout);
    if (best) state.best = model;
    const auto fill = [&](std::string_view name, auto& tensor) {
      using Scalar = typename std::remove_cvref_t<decltype(tensor)>::Scalar;
      const std::vector<std::int64_t> shape = detail::file_shape(tensor);
      const std::span<Scalar> values(tensor.data(), static_cast<std::size_t>(tensor.size()));
      file.template read<Scalar>(std::string(name), {shape.begin(), shape.end()}, values);
      file.check_finite(std::string(name), std::span<const Scalar>(values));
    };
    detail::visit_checkpoint(fill, model, state);
    file.expect_no_more();
    detail::check_second_moment(from.source(), state.optimizer.second_moment());
    state.optimizer.set_steps(updates);
    return {std::move(model), std::move(state)};
  } catch (const std::invalid_argument& error) {  // from recipe, schedule and layers
    file.fail("does not describe a run: " + std::string(error.what()));
  }
}

/// The checkpoint that save_checkpoint wrote, of a model of the same scalar. Throws std::runtime_error, naming file,
/// what was expected and what came.
template <class Model>
Checkpoint<Model> load_checkpoint(const std::filesystem::path& path) {
  return read_checkpoint<Model>(SafetensorsFile::load(path));
}

}  // namespace hsm::inline HSM_ABI
