// SPDX-License-Identifier: MIT
//
// Models whose matrices take fewer bytes through files: as they were stored they come back, and nothing else does.
#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <limits>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include <hsm/io/session_file.hpp>

#include "io/io_test_support.hpp"
#include "io/model_file_parts.hpp"
#include "support/tolerance.hpp"

namespace hsm::test::narrow_model_file_test {
namespace {

using namespace model_file_parts;

/// A model whose matrices take fewer bytes.
Net narrow_model(Storage storage) {
  Net model = make_model();
  store_matrices(model, storage);
  return model;
}

TEST(NarrowModelFile, GivesBackMatricesInFewerBytes) {
  const TemporaryDirectory directory;
  std::set<std::string> fingerprints{fingerprint(make_model())};
  for (const Storage storage : {Storage::kBfloat16, Storage::kInt8}) {
    const Net model = narrow_model(storage);
    save_model(directory / "model", model);
    const Net loaded = load_model<Net>(directory / "model");
    EXPECT_EQ(loaded.storage(), storage);
    EXPECT_EQ(fingerprint(loaded), fingerprint(model));
    fingerprints.insert(fingerprint(model));
    EXPECT_EQ(count_parameters(loaded), count_parameters(make_model()));
    Net wide = model, wide_loaded = loaded;
    store_matrices(wide, Storage::kFloat);
    store_matrices(wide_loaded, Storage::kFloat);
    expect_same_model(wide_loaded, wide);
    Workspace workspace;
    GenerationSession first(loaded, workspace), second(wide, workspace);
    for (std::int32_t id = 0; id < 7; ++id) {
      first.next(id);
      second.next(id);
      expect_close_to_scale(first.logits(), second.logits(),
                            storage == Storage::kInt8 ? Tolerance<float>::rounded : Tolerance<float>::mode,
                            "logits");
    }
  }
  EXPECT_EQ(fingerprints.size(), 3u) << "sessions of one would be taken for another's";
}

TEST(NarrowModelFile, StoresMatricesAsItSays) {
  const TemporaryDirectory directory;
  save_model(directory / "bf16", narrow_model(Storage::kBfloat16));
  save_model(directory / "int8", narrow_model(Storage::kInt8));
  const auto bf16 = SafetensorsFile::load(directory / "bf16");
  const auto int8 = SafetensorsFile::load(directory / "int8");
  EXPECT_EQ(bf16.metadata().at("storage"), "bf16");
  EXPECT_EQ(int8.metadata().at("storage"), "int8");
  EXPECT_EQ(int8.metadata().at("storage.group"), "32");
  using Shape = std::vector<std::int64_t>;
  for (const auto& [name, out, in] :
       {std::tuple("embedding.weight", 13, 8), std::tuple("layers.2.mixer.project.weight", 8, 8),
        std::tuple("layers.4.feed_forward.down.weight", 8, 10)}) {
    EXPECT_EQ(bf16.at(name).dtype, DType::bf16) << name;
    EXPECT_EQ(bf16.at(name).shape, (Shape{out, in})) << name;
    EXPECT_EQ(int8.at(name).dtype, DType::i8) << name;
    EXPECT_EQ(int8.at(name).shape, (Shape{out, in})) << name;
    EXPECT_EQ(int8.at(std::string(name) + ".scales").dtype, DType::f32) << name;
    EXPECT_EQ(int8.at(std::string(name) + ".scales").shape, (Shape{out, 1})) << name;
  }
  for (const char* name : {"positions.weight", "norm.gain", "layers.4.feed_forward.up.bias"})
    EXPECT_EQ(int8.at(name).dtype, DType::f32) << name;
}

TEST(NarrowModelFile, TakesBfloat16WithoutAWordForNumbers) {
  const TemporaryDirectory directory;
  write_changed(
      directory / "model", [](Parts& p) { p.metadata.erase("storage"); }, narrow_model(Storage::kBfloat16));
  Net expected = narrow_model(Storage::kBfloat16);
  store_matrices(expected, Storage::kFloat);
  const Net loaded = load_model<Net>(directory / "model");
  EXPECT_EQ(loaded.storage(), Storage::kFloat);
  expect_same_model(loaded, expected);
}

TEST(NarrowModelFile, RefusesMatricesInFewerBytesThatAreNone) {
  const TemporaryDirectory directory;
  const auto refused = [&](Storage storage, const std::function<void(Parts&)>& edit) {
    const auto path = directory / "changed.safetensors";
    write_changed(path, edit, narrow_model(storage));
    return message_of_exactly<std::runtime_error>([&] { load_model<Net>(path); });
  };
  const std::string up = "layers.3.feed_forward.up.weight", scales = up + ".scales";
  EXPECT_TRUE(mentions(refused(Storage::kInt8, [](Parts& p) { p.metadata["storage"] = "int4"; }),
                       {"'storage'", "'bf16' or 'int8'", "got 'int4'"}));
  EXPECT_TRUE(mentions(refused(Storage::kInt8, [](Parts& p) { p.metadata["storage"] = "float"; }),
                       {"'storage'", "got 'float'"}));
  EXPECT_TRUE(mentions(refused(Storage::kInt8, [](Parts& p) { p.metadata.erase("storage.group"); }),
                       {"'storage.group'", "'32'", "got none"}));
  EXPECT_TRUE(mentions(refused(Storage::kInt8, [](Parts& p) { p.metadata["storage.group"] = "64"; }),
                       {"'32'", "got '64'"}));
  EXPECT_TRUE(mentions(refused(Storage::kInt8, [](Parts& p) { p.metadata.erase("storage"); }), {"I8"}));
  EXPECT_TRUE(mentions(refused(Storage::kInt8, [](Parts& p) { p.metadata["storage"] = "bf16"; }),
                       {"must be BF16 [13,8], got I8 [13,8]"}));
  EXPECT_TRUE(mentions(refused(Storage::kInt8, [&](Parts& p) { p.tensors.erase(scales); }),
                       {"'" + scales + "' is missing"}));
  EXPECT_TRUE(mentions(refused(Storage::kInt8,
                               [&](Parts& p) {
                                 p.tensors.at(scales).shape = {1, 10};
                               }),
                       {scales, "F32 [10,1]", "F32 [1,10]"}));
  EXPECT_TRUE(
      mentions(refused(Storage::kInt8, [&](Parts& p) { p.tensors.at(up).bytes[5] = std::byte{0x80}; }),
               {up, "-127 to 127", "got -128 at element 5"}));
  for (const float scale :
       {-1.0F, std::numeric_limits<float>::infinity(), 3e36F, std::numeric_limits<float>::max() / 127,
        std::numeric_limits<float>::quiet_NaN()}) {
    EXPECT_TRUE(mentions(
        refused(Storage::kInt8,
                [&](Parts& p) { std::memcpy(p.tensors.at(scales).bytes.data() + 8, &scale, sizeof scale); }),
        {scales, "0 to 2.67e36", "at element 2"}));
  }
  EXPECT_TRUE(mentions(refused(Storage::kBfloat16,
                               [&](Parts& p) {
                                 p.tensors.at(up).bytes[2] = std::byte{0x80};
                                 p.tensors.at(up).bytes[3] = std::byte{0x7F};
                               }),
                       {up, "finite", "got inf at element 1"}));
  EXPECT_TRUE(mentions(
      refused(Storage::kBfloat16, [&](Parts& p) { p.tensors["more.scales"] = p.tensors.at("norm.gain"); }),
      {"'more.scales'"}));
}

TEST(NarrowModelFile, RefusesToSaveMatricesOfTwoKinds) {
  const TemporaryDirectory directory;
  Net model = make_model();
  model.embedding().store(Storage::kInt8);
  EXPECT_TRUE(
      mentions(message_of_exactly<std::runtime_error>([&] { save_model(directory / "model", model); }),
               {"must be stored as int8, as the embedding is, got float"}));
  EXPECT_EQ(directory.entries(), 0);
}

TEST(NarrowModelFile, KeepsASessionFromOtherWeights) {
  const TemporaryDirectory directory;
  const Net model = narrow_model(Storage::kInt8), wide = make_model();
  Workspace workspace;
  GenerationSession session(model, workspace);
  session.next(3);
  save_session(directory / "session", session);
  EXPECT_EQ(load_session(directory / "session", model).memory.history, session.memory().history);
  EXPECT_TRUE(
      mentions(message_of_exactly<std::runtime_error>([&] { load_session(directory / "session", wide); }),
               {"fingerprint"}));
}

}  // namespace
}  // namespace hsm::test::narrow_model_file_test
