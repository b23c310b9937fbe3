// SPDX-License-Identifier: MIT
//
// Model files with the tokenizer inside. Only making the tokenizer needs the library, reading the file does not.
#include <gtest/gtest.h>

#include <functional>
#include <hsm/io/text_tokenizer.hpp>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

#include "io/io_test_support.hpp"
#include "io/sentencepiece_proto.hpp"
#include "support/models.hpp"

namespace hsm::test::tokenizer_file_test {
namespace {

using Net = LanguageModel<float>;

/// A tokenizer that has a model to be saved, without the library.
struct Stored {
  std::string bytes = sentencepiece_model({"ab", "abc"});
  std::int32_t vocabulary() const { return SentencePieceVocabulary(bytes, "test").count(); }
  std::vector<std::int32_t> encode(std::string_view) const { return {}; }
  std::string_view piece(std::int32_t) const { return {}; }
  std::string_view model() const { return bytes; }
};

Net make_model(Index vocabulary) {
  Random random(4);
  return Net({.vocabulary = vocabulary, .width = 8, .feed_forward = 10, .context = 7, .layers = "2*ab"},
             random);
}

std::vector<float> weights(const Net& model) {
  std::vector<float> all;
  Net::visit([&](std::string_view, const auto& t) { all.insert(all.end(), t.data(), t.data() + t.size()); },
             model);
  return all;
}

/// A correct file with a tokenizer, after `edit` of its metadata and its tokenizer's bytes.
std::string refusal(const TemporaryDirectory& directory,
                    const std::function<void(std::map<std::string, std::string>&, std::string&)>& edit,
                    DType dtype = DType::u8, bool with_tensor = true) {
  const auto path = directory / "model";
  save_model(path, make_model(258), Stored());
  const SafetensorsFile file = SafetensorsFile::load(path);
  std::map<std::string, std::string> metadata(file.metadata().begin(), file.metadata().end());
  std::string tokenizer = Stored().bytes;
  edit(metadata, tokenizer);
  SafetensorsWriter writer;
  for (const auto& [key, value] : metadata) writer.set_metadata(key, value);
  for (const TensorInfo& info : file.tensors())
    if (info.name != "tokenizer.model") writer.add(info.name, info.dtype, info.shape, file.bytes(info));
  if (with_tensor)
    writer.add("tokenizer.model", dtype, {static_cast<std::int64_t>(tokenizer.size() / dtype_size(dtype))},
               std::as_bytes(std::span(tokenizer)));
  writer.write(directory / "changed");
  const std::string message =
      message_of_exactly<std::runtime_error>([&] { load_model<Net>(directory / "changed"); });
  EXPECT_TRUE(message.starts_with((directory / "changed").string() + ": ")) << message;
  return message;
}

TEST(TokenizerFile, ChangesNothingWhereTokensAreBytesOrAnybodysOwn) {
  const TemporaryDirectory directory;
  save_model(directory / "plain", make_model(256));
  save_model(directory / "bytes", make_model(256), ByteTokenizer());
  save_model(directory / "text", make_model(256), TextTokenizer());
  const std::string plain = read_raw(directory / "plain");
  EXPECT_TRUE(read_raw(directory / "bytes") == plain);
  EXPECT_TRUE(read_raw(directory / "text") == plain);
  EXPECT_EQ(plain.find("tokenizer"), std::string::npos);
  EXPECT_TRUE(load_tokenizer(directory / "plain").is_bytes());
  save_model(directory / "own", make_model(1000));
  EXPECT_EQ(load_model<Net>(directory / "own").config().vocabulary, 1000);
}

TEST(TokenizerFile, HoldsTheTokenizerBesideTheWeights) {
  const TemporaryDirectory directory;
  const Net model = make_model(258);
  save_model(directory / "model", model, Stored());
  const SafetensorsFile file = SafetensorsFile::load(directory / "model");
  EXPECT_EQ(file.metadata().at("tokenizer"), "sentencepiece");
  EXPECT_EQ(file.at("tokenizer.model").dtype, DType::u8);
  EXPECT_EQ(hsm::detail::stored_tokenizer(file), Stored().bytes);
  EXPECT_EQ(weights(load_model<Net>(directory / "model")), weights(model));
  if (!SentencePieceTokenizer::kAvailable) {
    EXPECT_TRUE(mentions(message_of_exactly<std::runtime_error>([&] { load_tokenizer(directory / "model"); }),
                         {"model: ", "built without"}));
    return;
  }
  const TextTokenizer tokenizer = read_tokenizer(file);
  EXPECT_FALSE(tokenizer.is_bytes());
  EXPECT_EQ(tokenizer.model(), Stored().bytes);
  EXPECT_EQ(tokenizer.vocabulary(), 258);
  EXPECT_EQ(tokenizer.piece(257), "abc");
  save_model(directory / "again", load_model<Net>(directory / "model"), tokenizer);
  EXPECT_TRUE(read_raw(directory / "again") == read_raw(directory / "model"));
}

TEST(TokenizerFile, IsNotWrittenWithAnotherVocabulary) {
  const TemporaryDirectory directory;
  for (const Index vocabulary : {256, 257, 259}) {
    const std::string message = message_of_exactly<std::invalid_argument>(
        [&] { save_model(directory / "model", make_model(vocabulary), Stored()); });
    EXPECT_TRUE(mentions(message, {"vocabulary", std::to_string(vocabulary), "got 258"}));
  }
  EXPECT_THROW(save_model(directory / "model", make_model(300), ByteTokenizer()), std::invalid_argument);
  EXPECT_EQ(directory.entries(), 0);
}

TEST(TokenizerFile, IsRefusedWhereItIsBrokenOrDoesNotFit) {
  const TemporaryDirectory directory;
  using Metadata = std::map<std::string, std::string>;
  const auto sign = [](Metadata& metadata, const std::string& bytes) {
    metadata["tokenizer.fingerprint"] = hsm::detail::tokenizer_fingerprint(bytes);
  };
  EXPECT_TRUE(mentions(refusal(directory, [](Metadata& m, std::string&) { m["tokenizer"] = "words"; }),
                       {"'tokenizer'", "'sentencepiece'", "got 'words'"}));
  EXPECT_TRUE(mentions(refusal(directory, [](Metadata& m, std::string&) { m.erase("tokenizer"); }),
                       {"no tensor but those", "'tokenizer.model'"}));
  EXPECT_TRUE(
      mentions(refusal(directory, [](Metadata& m, std::string&) { m.erase("tokenizer.fingerprint"); }),
               {"tokenizer.fingerprint", "got none"}));
  EXPECT_TRUE(mentions(
      refusal(directory, [](Metadata&, std::string& bytes) { bytes[9] = static_cast<char>(bytes[9] ^ 1); }),
      {"tokenizer.fingerprint", "fnv1a-64:"}));
  EXPECT_TRUE(mentions(refusal(
                           directory, [](Metadata&, std::string&) {}, DType::u8, false),
                       {"tokenizer.model", "missing"}));
  EXPECT_TRUE(mentions(refusal(
                           directory,
                           [&](Metadata& m, std::string& bytes) {
                             bytes.resize(bytes.size() / 4 * 4);
                             sign(m, bytes);
                           },
                           DType::f32),
                       {"tokenizer.model", "U8", "F32"}));
  EXPECT_TRUE(mentions(refusal(directory,
                               [&](Metadata& m, std::string& bytes) {
                                 bytes.resize(bytes.size() / 2);
                                 sign(m, bytes);
                               }),
                       {"tokenizer.model", "SentencePiece"}));
  EXPECT_TRUE(mentions(refusal(directory,
                               [&](Metadata& m, std::string& bytes) {
                                 bytes = sentencepiece_model({"ab"});
                                 sign(m, bytes);
                               }),
                       {"258", "tokenizer", "got 257"}));
  EXPECT_TRUE(mentions(refusal(directory,
                               [&](Metadata& m, std::string& bytes) {
                                 bytes.clear();
                                 sign(m, bytes);
                               }),
                       {"SentencePiece"}));
}

TEST(TokenizerFile, IsRefusedWhereItIsCut) {
  const TemporaryDirectory directory;
  save_model(directory / "model", make_model(258), Stored());
  const std::string whole = read_raw(directory / "model");
  for (std::size_t cut = 1; cut < 1000; cut += 111) {
    write_raw(directory / "cut", whole.substr(0, whole.size() - cut));
    EXPECT_THROW(load_model<Net>(directory / "cut"), std::runtime_error) << cut;
    EXPECT_THROW(load_tokenizer(directory / "cut"), std::runtime_error) << cut;
  }
}

}  // namespace
}  // namespace hsm::test::tokenizer_file_test
