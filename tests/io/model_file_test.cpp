// SPDX-License-Identifier: MIT
//
// Models through files: what is saved comes back bit for bit, and nothing else comes back at all.
#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <hsm/io/model_file.hpp>
#include <hsm/model/session.hpp>
#include <limits>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

#include "io/io_test_support.hpp"
#include "io/model_file_parts.hpp"

namespace hsm::test::model_file_test {
namespace {

using namespace model_file_parts;

/// The message with which the changed file is refused.
std::string refusal(const TemporaryDirectory& directory, const std::function<void(Parts&)>& edit) {
  const auto path = directory / "changed.safetensors";
  write_changed(path, edit);
  const std::string message = message_of_exactly<std::runtime_error>([&] { load_model<Net>(path); });
  EXPECT_TRUE(message.starts_with(path.string() + ": ")) << message;
  return message;
}

void replace(std::string& text, const std::string& from, const std::string& to) {
  const std::size_t place = text.find(from);
  ASSERT_NE(place, std::string::npos) << from << " is not in " << text;
  text.replace(place, from.size(), to);
}

TEST(ModelFile, GivesBackEachBit) {
  const TemporaryDirectory directory;
  const auto model = make_model();
  save_model(directory / "model.safetensors", model);
  expect_same_model(load_model<Net>(directory / "model.safetensors"), model);
  EXPECT_EQ(directory.entries(), 1);
  LanguageModelConfig plain = small_config();
  plain.positions = Positions::kNone;
  plain.schedule = "list=1,5,2,9,3,1";
  const auto wide = make_model<double>(plain);
  save_model(directory / "model.safetensors", wide);
  expect_same_model(load_model<LanguageModel<double>>(directory / "model.safetensors"), wide);
}

TEST(ModelFile, SaysWhatItHolds) {
  const TemporaryDirectory directory;
  save_model(directory / "model.safetensors", make_model());
  const auto file = SafetensorsFile::load(directory / "model.safetensors");
  EXPECT_EQ(file.metadata().at("format"), "hsm-language-model");
  EXPECT_EQ(file.metadata().at("version"), "1");
  EXPECT_EQ(
      file.metadata().at("config"),
      R"({"vocabulary":13,"width":8,"feed_forward":10,"context":7,"positions":"learned",)"
      R"("layers":"2*ab:heads=2,gated:heads=1,gated-pair:heads=1,softmax-local:heads=2:taps=3,attention:block=0:heads=1:rotary=0:top=0:window=0","schedule":"cyclic=3"})");
  EXPECT_EQ(file.at("embedding.weight").shape, (std::vector<std::int64_t>{13, 8}));
  EXPECT_EQ(file.at("positions.weight").shape, (std::vector<std::int64_t>{7, 8}));
  EXPECT_EQ(file.at("layers.1.mixer.a").shape, (std::vector<std::int64_t>{2}));
  EXPECT_EQ(file.at("layers.5.mixer.project.weight").shape, (std::vector<std::int64_t>{24, 8}));
  EXPECT_EQ(file.at("layers.0.feed_forward.up.weight").dtype, DType::f32);
}

TEST(ModelFile, GeneratesTheSameTokensAfterwards) {
  const TemporaryDirectory directory;
  const auto model = make_model();
  save_model(directory / "model.safetensors", model);
  const auto loaded = load_model<Net>(directory / "model.safetensors");
  Workspace workspace;
  GenerationSession first(model, workspace), second(loaded, workspace);
  for (std::int32_t id = 0; id < 7; ++id) {
    first.next(id);
    second.next(id);
    expect_same_bits(second.logits(), first.logits(), "logits");
  }
}

TEST(ModelFile, ConvertsBetweenFloatAndDouble) {
  const TemporaryDirectory directory;
  const auto model = make_model();
  save_model(directory / "float.safetensors", model);
  const auto wide = load_model<LanguageModel<double>>(directory / "float.safetensors");
  save_model(directory / "double.safetensors", wide);
  EXPECT_EQ(SafetensorsFile::load(directory / "double.safetensors").at("norm.gain").dtype, DType::f64);
  expect_same_model(load_model<Net>(directory / "double.safetensors"), model);
}

TEST(ModelFile, RefusesAFileThatIsCutOrPadded) {
  const TemporaryDirectory directory;
  const auto path = directory / "model.safetensors";
  save_model(path, make_model());
  const std::string whole = read_raw(path);
  for (const std::size_t size :
       {std::size_t{0}, std::size_t{7}, std::size_t{100}, whole.size() / 2, whole.size() - 1}) {
    write_raw(path, whole.substr(0, size));
    EXPECT_THROW(load_model<Net>(path), std::runtime_error) << size;
  }
  write_raw(path, whole + '\0');
  EXPECT_THROW(load_model<Net>(path), std::runtime_error);
  EXPECT_THROW(load_model<Net>(directory / "missing"), std::runtime_error);
}

TEST(ModelFile, RefusesOtherMetadata) {
  const TemporaryDirectory directory;
  for (const char* key : {"format", "version", "config"}) {
    EXPECT_TRUE(mentions(refusal(directory, [&](Parts& p) { p.metadata.erase(key); }), {key, "got none"}));
  }
  EXPECT_TRUE(mentions(refusal(directory, [](Parts& p) { p.metadata["format"] = "other"; }),
                       {"'hsm-language-model'", "got 'other'"}));
  EXPECT_TRUE(
      mentions(refusal(directory, [](Parts& p) { p.metadata["version"] = "2"; }), {"'1'", "got '2'"}));
}

TEST(ModelFile, RefusesAConfigThatIsNotOne) {
  const TemporaryDirectory directory;
  const auto refused = [&](const std::string& from, const std::string& to) {
    return refusal(directory, [&](Parts& p) { replace(p.metadata["config"], from, to); });
  };
  EXPECT_TRUE(mentions(refused("{\"vocabulary\"", "[\"vocabulary\""), {"config"}));
  EXPECT_TRUE(
      mentions(refused("\"width\":8", "\"width\":8,\"width\":8"), {"each key once", "'width' twice"}));
  EXPECT_TRUE(mentions(refused("\"width\":8", "\"width\":8,\"depth\":8"), {"'depth'"}));
  EXPECT_TRUE(mentions(refused("\"width\":8,", ""), {"'width'", "got none"}));
  EXPECT_TRUE(mentions(refused("\"width\":8", "\"width\":[8]"), {"flat"}));
  EXPECT_TRUE(mentions(refused("\"width\":8", "\"width\":{\"width\":8}"), {"flat"}));
  for (const char* number :
       {"0", "-8", "8.0", "\"8\"", "true", "null", "2147483648", "1e3", "99999999999999999999"}) {
    EXPECT_TRUE(mentions(refused("\"width\":8", std::string("\"width\":") + number), {"width"})) << number;
  }
  EXPECT_TRUE(mentions(refused("\"learned\"", "\"rotary\""), {"positions", "'rotary'"}));
  EXPECT_TRUE(mentions(refused("\"learned\"", "1"), {"positions", "'1'"}));
  EXPECT_TRUE(mentions(refused("gated:", "goted:"), {"'goted'"}));
  EXPECT_TRUE(mentions(refused("cyclic=3", "cyclic=0"), {"period"}));
  EXPECT_TRUE(mentions(refused("cyclic=3", "list=1,2"), {"6 layers"}));
  EXPECT_TRUE(mentions(refused("ab:heads=2", "ab:heads=3"), {"heads"}));
  EXPECT_TRUE(mentions(refusal(directory, [](Parts& p) { p.metadata["config"] = "null"; }), {"JSON object"}));
  EXPECT_TRUE(mentions(refusal(directory, [](Parts& p) { p.metadata["config"] += "}"; }), {"JSON object"}));
  EXPECT_TRUE(
      mentions(refusal(directory, [](Parts& p) { p.metadata["config"] += std::string(1, '\0') + "{"; }),
               {"zero byte"}));
  EXPECT_TRUE(mentions(refusal(directory, [](Parts& p) { p.metadata["config"] += std::string(70000, ' '); }),
                       {"65536", "bytes"}));
}

TEST(ModelFile, RefusesSizesThatTheTensorsDoNotBearOut) {
  const TemporaryDirectory directory;
  const auto refused = [&](const std::string& from, const std::string& to) {
    return refusal(directory, [&](Parts& p) { replace(p.metadata["config"], from, to); });
  };
  // Any of these would take gigabytes if it were believed.
  EXPECT_TRUE(mentions(refused(":13", ":2000000000"), {"'embedding.weight'", "[2000000000,8]", "[13,8]"}));
  EXPECT_TRUE(mentions(refused("\"width\":8", "\"width\":2000000000"), {"'embedding.weight'"}));
  EXPECT_TRUE(
      mentions(refused(":10", ":2000000000"), {"feed_forward.up.weight", "[2000000000,8]", "[10,8]"}));
  EXPECT_TRUE(mentions(refused(":7", ":2000000000"), {"'positions.weight'", "[2000000000,8]", "[7,8]"}));
  EXPECT_TRUE(mentions(refused("2*ab", "250*ab"), {"feed_forward.up.weight", "missing"}));
  // One wide attention layer without the tensors for it.
  const std::string message = refusal(directory, [](Parts& p) {
    constexpr std::int64_t kWidth = 1 << 20;
    p.metadata["config"] =
        R"({"vocabulary":1,"width":1048576,"feed_forward":1,"context":7,"positions":"none","layers":"attention","schedule":"dyadic"})";
    const std::vector<std::byte> row(kWidth * sizeof(float));
    p.tensors = {{"embedding.weight", {DType::f32, {1, kWidth}, row}},
                 {"layers.0.feed_forward.up.weight", {DType::f32, {1, kWidth}, row}}};
  });
  EXPECT_TRUE(mentions(message, {"'layers.0.mixer.project.weight' is missing"}));
  // Each kind of mixer with products, whose tensor is a row of its matrix: 4 C^2 floats would be 256 MB.
  for (const char* name : {"gated", "gated-pair", "matrix", "fusion", "softmax-local", "attention"}) {
    const std::string refused_mixer = refusal(directory, [&](Parts& p) {
      p.metadata["config"] =
          R"({"vocabulary":1,"width":4096,"feed_forward":1,"context":7,"positions":"none","layers":")" +
          std::string(name) + R"(","schedule":"dyadic"})";
      const std::vector<std::byte> row(4096);
      p.tensors = {{"embedding.weight", {DType::u8, {1, 4096}, row}},
                   {"layers.0.feed_forward.up.weight", {DType::u8, {1, 4096}, row}},
                   {"layers.0.mixer.project.weight", {DType::u8, {1, 4096}, row}}};
    });
    EXPECT_TRUE(mentions(refused_mixer, {"'layers.0.mixer.project.weight' must be [", "4096], got [1,4096]"}))
        << refused_mixer;
  }
}

TEST(ModelFile, HoldsAWideModelWithFewWeights) {
  const TemporaryDirectory directory;
  LanguageModelConfig config{.vocabulary = 1, .width = 5000, .feed_forward = 1, .layers = "ab,channel"};
  const Net model = make_model(config);
  save_model(directory / "wide", model);
  expect_same_model(load_model<Net>(directory / "wide"), model);
  // One with products, past the width below which they are not asked to be there.
  config = {.vocabulary = 1, .width = 1040, .feed_forward = 1, .layers = "gated"};
  const Net gated = make_model(config);
  save_model(directory / "gated", gated);
  expect_same_model(load_model<Net>(directory / "gated"), gated);
}

TEST(ModelFile, RefusesMissingExtraAndWrongTensors) {
  const TemporaryDirectory directory;
  for (const char* name :
       {"embedding.weight", "positions.weight", "layers.2.mixer.project.weight",
        "layers.3.feed_forward.up.weight", "layers.4.feed_forward.down.bias", "norm.gain"}) {
    EXPECT_TRUE(mentions(refusal(directory, [&](Parts& p) { p.tensors.erase(name); }), {name, "missing"}));
    EXPECT_TRUE(mentions(refusal(directory,
                                 [&](Parts& p) {
                                   auto& shape = p.tensors.at(name).shape;
                                   shape.insert(shape.begin(), 1);
                                 }),
                         {name, "must be ["}));
  }
  EXPECT_TRUE(mentions(refusal(directory, [](Parts& p) { p.tensors["norm.more"] = p.tensors["norm.gain"]; }),
                       {"expected no tensor but those", "'norm.more'"}));
  EXPECT_TRUE(mentions(refusal(directory, [](Parts& p) { p.tensors["norm.gain"].dtype = DType::i32; }),
                       {"'norm.gain'", "F32", "I32"}));
}

TEST(ModelFile, RefusesWeightsThatAreNotNumbers) {
  const TemporaryDirectory directory;
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::infinity()}) {
    const std::string message = refusal(directory, [&](Parts& p) {
      std::memcpy(p.tensors.at("layers.1.feed_forward.down.bias").bytes.data() + 5 * sizeof(float), &bad,
                  sizeof(float));
    });
    EXPECT_TRUE(mentions(message, {"'layers.1.feed_forward.down.bias'", "finite", "element 5"}));
  }
}

/// A tokenizer of somebody else, whose model() is no SentencePiece model.
struct OtherTokenizer {
  std::int32_t ids = 0;
  std::int32_t vocabulary() const { return ids; }
  std::vector<std::int32_t> encode(std::string_view) const { return {}; }
  std::string_view piece(std::int32_t) const { return "x"; }
  std::string model() const { return "merges of its own"; }
};

TEST(ModelFile, WritesNoTokenizerThatItCouldNotRead) {
  const TemporaryDirectory directory;
  const auto path = directory / "model.safetensors";
  const auto model = make_model();
  const OtherTokenizer tokenizer{static_cast<std::int32_t>(model.config().vocabulary)};
  EXPECT_TRUE(mentions(message_of_exactly<std::invalid_argument>([&] { save_model(path, model, tokenizer); }),
                       {"save_model: what model() of the tokenizer gives"}));
  EXPECT_EQ(directory.entries(), 0);
}

TEST(ModelFile, LeavesAnExistingFileAloneWhenSavingFails) {
  const TemporaryDirectory directory;
  const auto path = directory / "model.safetensors";
  save_model(path, make_model());
  const std::string before = read_raw(path);
  auto broken = make_model();
  broken.embedding().weight(1, 1) = std::numeric_limits<float>::quiet_NaN();
  EXPECT_TRUE(mentions(message_of_exactly<std::runtime_error>([&] { save_model(path, broken); }),
                       {path.string(), "'embedding.weight'", "finite"}));
  EXPECT_EQ(read_raw(path), before);
  auto wide = make_model();
  wide.embedding().weight.setZero(wide.embedding().rows() + 1, wide.embedding().channels());
  EXPECT_THROW(save_model(path, wide), std::invalid_argument);
  EXPECT_EQ(read_raw(path), before);
  EXPECT_EQ(directory.entries(), 1);
  EXPECT_THROW(save_model(directory / "none" / "model.safetensors", make_model()), std::runtime_error);
}

}  // namespace
}  // namespace hsm::test::model_file_test
