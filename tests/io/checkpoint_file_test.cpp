// SPDX-License-Identifier: MIT
//
// Checkpoints: what is read is what was written, to the bit, and what is not a whole checkpoint is refused by
// name.
#include <hsm/io/checkpoint_file.hpp>

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <functional>
#include <limits>
#include <map>
#include <optional>
#include <string>

#include "io/io_test_support.hpp"
#include "support/matchers.hpp"
#include "training/training_cases.hpp"

namespace hsm::test::checkpoint_file_test {
namespace {

const TrainingConfig kConfig{.batch = 3,
                             .steps = 12,
                             .learning_rate = 0.1 / 7,
                             .warmup = 0.3,
                             .clip = std::numeric_limits<double>::infinity(),
                             .validate_every = 4,
                             .seed = 0xFFFFFFFFFFFFFFFFull,
                             .dropout = 0.2,
                             .keep_best = true};

/// Every field that a checkpoint keeps, as text.
std::map<std::string, std::string> fields_of(const TrainingState<Net>& state) {
  std::map<std::string, std::string> all;
  const auto note = [&](std::string_view name, const auto& field) {
    all[std::string(name)] += hsm::detail::field_text(field) + ";";
  };
  TrainingConfig::visit(note, state.config);
  TrainingProgress::visit(note, state.progress);
  hsm::detail::visit_state_fields(note, state);
  note("windows", state.windows.state());
  note("generator", state.dropout.state());
  note("updates", state.optimizer.steps());
  return all;
}

std::vector<float> tensors_of(const Net& model, const TrainingState<Net>& state) {
  std::vector<float> values;
  hsm::detail::visit_checkpoint(
      [&](std::string_view, const auto& tensor) {
        values.insert(values.end(), tensor.data(), tensor.data() + tensor.size());
      },
      model, state);
  return values;
}

class CheckpointFile : public ::testing::Test {
 protected:
  /// A run that stands after `step` steps, in a file.
  TrainedRun saved_run(const TrainingConfig& config, Index step) const {
    TrainedRun run(config);
    run.train([&](const TrainingProgress& p) { return p.step < step; });
    save_checkpoint(path_, run.model, run.state);
    return run;
  }

  /// The message with which the file is refused after `spoil` has changed metadata and bytes.
  std::string refused(const std::function<void(std::string&)>& spoil) const {
    std::string bytes = read_raw(path_);
    spoil(bytes);
    return message_of_exactly<std::runtime_error>(
        [&] { read_checkpoint<Net>(SafetensorsFile::parse(to_bytes(bytes), "run")); });
  }

  /// The same with one piece of the header replaced by another, whatever their lengths.
  std::string refused(const std::string& from, const std::string& to) const {
    return refused([&](std::string& bytes) {
      std::uint64_t length = 0;
      std::memcpy(&length, bytes.data(), sizeof length);
      std::string header = bytes.substr(8, static_cast<std::size_t>(length));
      const std::size_t place = header.find(from);
      ASSERT_NE(place, std::string::npos) << from;
      header.replace(place, from.size(), to);
      header.append((8 - header.size() % 8) % 8, ' ');
      const std::string data = bytes.substr(8 + static_cast<std::size_t>(length));
      length = header.size();
      bytes.assign(reinterpret_cast<const char*>(&length), sizeof length);
      bytes += header + data;
    });
  }

  TemporaryDirectory directory_;
  std::filesystem::path path_ = directory_ / "run";
};

TEST_F(CheckpointFile, WhatIsReadIsWhatWasWritten) {
  for (const Index step : {1, 4, 7, 12}) {
    SCOPED_TRACE(step);
    const TrainedRun run = saved_run(kConfig, step);
    const auto got = load_checkpoint<Net>(path_);
    EXPECT_EQ(fields_of(got.state), fields_of(run.state));
    EXPECT_EQ(got.state.best.has_value(), step >= 4);
    expect_same_bits(tensors_of(got.model, got.state), tensors_of(run.model, run.state), "tensors");
    EXPECT_EQ(config_to_json(got.model.config()), config_to_json(run.model.config()));
    const std::string bytes = read_raw(path_);
    save_checkpoint(path_, got.model, got.state);
    EXPECT_TRUE(read_raw(path_) == bytes) << "written again it is another file";
  }
  EXPECT_EQ(directory_.entries(), 1);
}

TEST_F(CheckpointFile, ARunThatGoesOnFromAFileHasTheSameBits) {
  TrainedRun whole(kConfig);
  whole.train();
  for (const Index step : {1, 6, 8}) {
    saved_run(kConfig, step);
    auto got = load_checkpoint<Net>(path_);
    TrainedRun rest(kConfig);
    rest.model = std::move(got.model);
    rest.state = std::move(got.state);
    rest.train();
    expect_same_bits(tensors_of(rest.model, rest.state), tensors_of(whole.model, whole.state), "tensors");
    EXPECT_EQ(rest.end.loss, whole.end.loss);
    EXPECT_EQ(rest.end.validation_loss, whole.end.validation_loss);
    EXPECT_EQ(rest.told.size(), 12u - static_cast<std::size_t>(step));
  }
}

TEST_F(CheckpointFile, FieldsThatAreNotWhatTheyMustBeAreNamed) {
  const TrainedRun run = saved_run(kConfig, 6);
  EXPECT_TRUE(
      mentions(refused("hsm-checkpoint", "hsm-session"), {"run: metadata 'format'", "hsm-checkpoint"}));
  EXPECT_TRUE(
      mentions(refused("\"version\":\"1\"", "\"version\":\"9\""), {"'version' must be '1', got '9'"}));
  EXPECT_TRUE(mentions(refused("\"training.batch\":\"3\"", "\"training.batch\":\"x\""),
                       {"'training.batch' must be a whole number", "got 'x'"}));
  EXPECT_TRUE(mentions(refused("\"training.batch\":\"3\"", "\"training.batch\":\"-3\""), {"got '-3'"}));
  EXPECT_TRUE(mentions(refused("\"training.batch\":\"3\"", "\"training.batch\":\"\""), {"got ''"}));
  EXPECT_TRUE(mentions(refused("\"training.batch\":\"3\"", "\"training.batch\":\"0\""),
                       {"does not describe a run", "batch must be at least 1"}));
  EXPECT_TRUE(mentions(refused("\"training.batch\":\"3\"", "\"training.bath\":\"3\""), {"'training.batch'"}));
  EXPECT_TRUE(mentions(
      refused("\"training.seed\":\"18446744073709551615\"", "\"training.seed\":\"18446744073709551616\""),
      {"'training.seed' must be a whole number"}));
  EXPECT_TRUE(mentions(refused("\"training.dropout\":\"0.2\"", "\"training.dropout\":\"1.5\""),
                       {"dropout must be a probability in [0, 1)"}));
  EXPECT_TRUE(mentions(refused("\"training.warmup\":\"0.3\"", "\"training.warmup\":\"nan\""),
                       {"'training.warmup' must be a finite number, got 'nan'"}));
  EXPECT_TRUE(mentions(refused("\"training.keep_best\":\"true\"", "\"training.keep_best\":\"1\""),
                       {"'training.keep_best' must be 'true' or 'false'"}));
  EXPECT_TRUE(mentions(refused("\"training.keep_best\":\"true\"", "\"training.keep_best\":\"false\""),
                       {"state.best"}));
  EXPECT_TRUE(mentions(refused("\"progress.step\":\"6\"", "\"progress.step\":\"13\""),
                       {"progress.step must be at most training.steps, 12, got 13"}));
  EXPECT_TRUE(mentions(refused("\"state.updates\":\"6\"", "\"state.updates\":\"5\""),
                       {"state.updates must be progress.step, 6, got 5"}));
  EXPECT_TRUE(mentions(refused("\"state.stale\":\"", "\"state.stale\":\"9"),
                       {"state.stale must be at most progress.step, 6, got 9"}));
  EXPECT_TRUE(mentions(refused("\"state.windows\":\"", "\"state.windows\":\"x"), {"'state.windows'"}));
  EXPECT_TRUE(
      mentions(refused("\"training.learning_rate\":\"", "\"training.learning_rate\":\"-"),
               {"run: does not describe a run", "learning_rate must be above 0 and finite, got -0.01"}));
  EXPECT_TRUE(mentions(refused("\"training.final_rate\":\"0.1\"", "\"training.final_rate\":\"1.1\""),
                       {"does not describe a run", "final_rate must be a share of the learning rate"}));
  EXPECT_TRUE(mentions(refused("\"training.clip\":\"infinity\"", "\"training.clip\":\"0\""),
                       {"does not describe a run", "clip must be above 0"}));
  EXPECT_TRUE(mentions(refused("\"training.weight_decay\":\"", "\"training.weight_decay\":\"-"),
                       {"does not describe a run", "weight_decay must be at least 0"}));
  EXPECT_TRUE(mentions(refused("\"state.validation_seconds\":\"", "\"state.validation_seconds\":\"-"),
                       {"state.validation_seconds must be at least 0"}));
  EXPECT_TRUE(mentions(refused("ab:heads=2", "ab:heads=3"), {"run: "}));
  EXPECT_TRUE(mentions(refused("\\\"width\\\":32", "\\\"width\\\":64"), {"embedding.weight"}));
}

TEST_F(CheckpointFile, ARunThatIsOverSaysSo) {
  saved_run(kConfig, 12);
  EXPECT_TRUE(mentions(refused("\"progress.finished\":\"true\"", "\"progress.finished\":\"false\""),
                       {"progress.finished must be true after the last step, got false"}));
}

TEST_F(CheckpointFile, TensorsThatAreNotWhatTheyMustBeAreNamed) {
  const TrainedRun run = saved_run(kConfig, 6);
  EXPECT_TRUE(mentions(refused("\"best.norm.bias\"", "\"other\""), {"'best.norm.bias' is missing"}));
  EXPECT_TRUE(mentions(refused("\"optimizer.first_moment.norm.bias\":{\"dtype\":\"F32\",\"shape\":[32]",
                               "\"optimizer.first_moment.norm.bias\":{\"dtype\":\"F32\",\"shape\":[4,8]"),
                       {"optimizer.first_moment.norm.bias", "[32]", "[4,8]"}));
  const float nan = std::numeric_limits<float>::quiet_NaN();
  EXPECT_TRUE(mentions(refused([&](std::string& bytes) {
                         std::memcpy(bytes.data() + bytes.size() - sizeof nan, &nan, sizeof nan);
                       }),
                       {"'best.norm.bias' must hold finite numbers", "nan"}));
  EXPECT_TRUE(mentions(refused([](std::string& bytes) { bytes.resize(bytes.size() - 1); }), {"run: "}));
  const SafetensorsFile whole = SafetensorsFile::load(path_);
  const auto place = whole.bytes(whole.at("optimizer.second_moment.norm.bias")).data() -
                     whole.bytes(whole.at("best.norm.bias")).data();
  EXPECT_TRUE(mentions(refused([&](std::string& bytes) {
                         constexpr std::ptrdiff_t kLast = 32 * sizeof(float);  // best.norm.bias
                         const float negative = -1;
                         std::memcpy(
                             bytes.data() + (static_cast<std::ptrdiff_t>(bytes.size()) - kLast + place),
                             &negative, sizeof negative);
                       }),
                       {"'optimizer.second_moment.norm.bias' must be at least 0, got -1.000000 at 0"}));
  for (std::size_t size = 0; size < 5000; size += 97)
    refused([&](std::string& bytes) { bytes.resize(size); });
  save_model(path_, run.model);
  EXPECT_TRUE(mentions(message_of_exactly<std::runtime_error>([&] { load_checkpoint<Net>(path_); }),
                       {"'format' must be 'hsm-checkpoint', got 'hsm-language-model'"}));
  save_checkpoint(path_, run.model, run.state);
  EXPECT_TRUE(mentions(message_of_exactly<std::runtime_error>([&] { load_model<Net>(path_); }),
                       {"'format' must be 'hsm-language-model', got 'hsm-checkpoint'"}));
  EXPECT_TRUE(
      mentions(message_of_exactly<std::runtime_error>([&] { load_checkpoint<LanguageModel<double>>(path_); }),
               {"F64", "F32"}));
}

TEST_F(CheckpointFile, NothingNotFiniteIsWrittenAndTheFormerFileStays) {
  TrainedRun run = saved_run(kConfig, 6);
  const std::string before = read_raw(path_);
  const auto refuse = [&](auto& tensor, const char* name) {
    const float kept = tensor.data()[0];
    tensor.data()[0] = std::numeric_limits<float>::quiet_NaN();
    EXPECT_TRUE(mentions(
        message_of_exactly<std::runtime_error>([&] { save_checkpoint(path_, run.model, run.state); }),
        {name}));
    tensor.data()[0] = kept;
  };
  refuse(run.model.embedding().weight, "'embedding.weight'");
  refuse(run.state.good.embedding().weight, "'good.embedding.weight'");
  refuse(run.state.best->embedding().weight, "'best.embedding.weight'");
  TrainedRun other = run;
  other.state.optimizer = AdamW<Net>(run.model, {.beta2 = 0.999});
  EXPECT_THROW(save_checkpoint(path_, other.model, other.state), std::invalid_argument);
  TrainedRun wide = run;
  wide.state.good.embedding().weight.setZero(3, 4);
  EXPECT_THROW(save_checkpoint(path_, wide.model, wide.state), std::invalid_argument);
  Random random(1);
  const Net narrow({.vocabulary = kTokenKinds, .width = 16, .context = kWindow, .layers = "ab"}, random);
  EXPECT_EQ(message_of_exactly<std::invalid_argument>([&] { save_checkpoint(path_, narrow, run.state); }),
            "save_checkpoint: the state must be that of a run of this model, got one of another config");
  TrainedRun moments = run;
  AdamW<Net>::visit([](std::string_view, auto& tensor) { tensor.resize(1, 1); }, moments.state.optimizer);
  EXPECT_THROW(save_checkpoint(path_, moments.model, moments.state), std::invalid_argument);
  EXPECT_TRUE(read_raw(path_) == before);
  EXPECT_EQ(directory_.entries(), 1);
  EXPECT_THROW(save_checkpoint(directory_ / "none/run", run.model, run.state), std::runtime_error);
}

TEST_F(CheckpointFile, WhatWouldNotBeReadIsNotWrittenAndTheFormerFileStays) {
  TrainedRun run = saved_run(kConfig, 6);
  const std::string before = read_raw(path_);
  constexpr double kNaN = std::numeric_limits<double>::quiet_NaN(),
                   kInfinity = std::numeric_limits<double>::infinity();
  const auto refuse = [&](auto& field, auto value, const std::string& message) {
    const auto kept = field;
    field = value;
    EXPECT_EQ(message_of_exactly<std::runtime_error>([&] { save_checkpoint(path_, run.model, run.state); }),
              path_.string() + ": " + message);
    field = kept;
  };
  TrainingProgress& p = run.state.progress;
  refuse(p.loss, kNaN, "metadata 'progress.loss' must be a finite number, got 'nan'");
  refuse(p.gradient_norm, kInfinity,
         "metadata 'progress.gradient_norm' must be a finite number, got 'infinity'");
  refuse(p.best_loss, kInfinity,
         "metadata 'progress.best_loss' must be a finite number or 'none', got 'infinity'");
  refuse(run.state.smoothed, -kInfinity, "metadata 'state.smoothed' must be a finite number, got 'nan'");
  refuse(run.state.stale, -1,
         "metadata 'state.stale' must be a whole number from 0 on that fits its place, got '-1'");
  refuse(run.state.stale, 7, "state.stale must be at most progress.step, 6, got 7");
  refuse(p.step, 5, "state.updates must be progress.step, 5, got 6");
  refuse(run.state.best, std::nullopt,
         "state.best must say whether there is a best model to keep, got false");
  refuse(run.state.config.batch, 0, "does not describe a run: train: batch must be at least 1, got 0");
  EXPECT_TRUE(mentions(refused("\"progress.loss\":\"", "\"progress.loss\":\"infinity\",\"a\":\""),
                       {"'progress.loss' must be a finite number, got 'infinity'"}));
  EXPECT_TRUE(read_raw(path_) == before);
  EXPECT_EQ(directory_.entries(), 1);
}

}  // namespace
}  // namespace hsm::test::checkpoint_file_test
