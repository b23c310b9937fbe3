// SPDX-License-Identifier: MIT
//
// A language model as one safetensors file: in the metadata
//
//   format   hsm-language-model
//   version  1
//   config   a JSON object, see io/model_config.hpp
//
// and its tensors under the names of `visit`, row-major, F32 or F64, a linear map as [out, in]:
//
//   embedding.weight [V,C], positions.weight [context,C] where they are learned, norm.gain, norm.bias [C]
//   layers.<l>.mixer_norm.gain, .bias, layers.<l>.feed_forward_norm.gain, .bias [C]
//   layers.<l>.feed_forward.up.weight [F,C], .up.bias [F], .down.weight [C,F], .down.bias [C]
//   layers.<l>.mixer.*
//     ab             a, b [H]                        channel      a, b [C]
//     matrix         project.weight [2C,C], rows A, B
//     gated          project.weight [C,C], .bias [C]
//     gated-pair     project.weight [2C,C], rows W, U, .bias [C], that of W
//     fusion         project.weight [2C,C], rows U, V, .bias [C], that of U; output.weight [C,C], .bias [C]
//     softmax-local  project.weight [3C,C], rows q, k, v; output.weight [C,C]
//     ema            alpha, beta, delta, eta [n,C]
//     attention, linear-attention
//                    project.weight [3C,C], rows q, k, v, .bias [3C]; output.weight [C,C], .bias [C]
//     hkt            the same; of each level e >= 1 level<e>.a, .b [C], .weight [2C,C], rows q, k, .bias [2C]; lambda [levels]
//
// The formulas are in the header of each; head h owns the rows h C/H ... (h+1) C/H - 1 of each block of C rows. The logits
// are E h: there is no other output map.
//
// A model whose matrices are in fewer bytes (core/narrow_matrix.hpp) says so in the metadata,
//
//   storage         bf16 or int8          storage.group   32, where it is int8
//
// and its embedding.weight and the .weight of every linear map above, which is every one but positions.weight, are
//
//   bf16   BF16 [out,in]
//   int8   I8 [out,in], -127 to 127, and <name>.scales, F32 [out, in / 32 rounded up]: the value in row i and column j is
//          worth the integer there times the scale in row i and column j / 32 (rounded down)
//
// Loaded, it stays so: it generates and is evaluated, and whoever trains it gets a sentence; store_matrices(model,
// Storage::kFloat) widens it. Numbers of another type without the key are taken for what they are worth, BF16 too.
//
// A model whose tokens are the pieces of a SentencePiece model brings that along:
//
//   tokenizer              sentencepiece
//   tokenizer.fingerprint  the hash of its bytes, see io/fingerprint.hpp
//
// in the metadata, and the bytes of its file as the tensor tokenizer.model, U8 [bytes]. Without them the ids are
// bytes where V is 256, else whatever who wrote the file says they are.
//
// Saving replaces a file whole or not at all. Loading trusts nothing: the config is compared with the shapes
// in the file before a model of its size is made, each tensor must be there once, alone, in its shape and
// finite. A file states every option of every layer; one that does not is read by the rule of its time
// (io/old_recipes.hpp). Errors: std::runtime_error `file: what was expected, what came`.
#pragma once

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include <hsm/core/check.hpp>
#include <hsm/io/fingerprint.hpp>
#include <hsm/io/model_config.hpp>
#include <hsm/io/model_tensors.hpp>
#include <hsm/io/old_recipes.hpp>
#include <hsm/io/safetensors_file.hpp>
#include <hsm/io/safetensors_writer.hpp>
#include <hsm/io/sentencepiece_vocabulary.hpp>
#include <hsm/io/tokenizer.hpp>
#include <hsm/model/language_model.hpp>

namespace hsm::inline HSM_ABI {

/// What the metadata of a model file says it is.
inline constexpr std::string_view kModelFormat = "hsm-language-model";
/// The version of the layout.
inline constexpr std::string_view kModelVersion = "1";

namespace detail {

/// The recipe of a file with every option stated. The pointer only names the type.
template <class Scalar, class List>
std::string recipe_of_file(const LanguageModelConfig& config, const LanguageModel<Scalar, List>*) {
  return with_old_options(List{}, Recipe::parse(config.layers), config.width).text();
}

/// Compares what a config implies with the tensors of the file, before memory of that size is taken. The
/// pointer only names the type.
template <class Scalar, class List>
void check_model_sizes(const SafetensorsFile& file, const LanguageModelConfig& config,
                       const LanguageModel<Scalar, List>*) {
  const auto expect = [&](const std::string& name, const std::vector<std::int64_t>& shape) {
    if (const TensorInfo& info = file.at(name); info.shape != shape) {
      throw std::runtime_error(file.source() + ": tensor " + in_quotes(name) + " must be " +
                               shape_text(shape) + ", got " + shape_text(info.shape));
    }
  };
  const Index C = config.width;
  expect("embedding.weight", {config.vocabulary, C});
  if (config.positions == Positions::kLearned) expect("positions.weight", {config.context, C});
  const std::vector<LayerRecipe> layers = Recipe::parse(config.layers).layers;
  const auto prefix = [](std::size_t l) { return "layers." + std::to_string(l) + "."; };
  for (std::size_t l = 0; l < layers.size(); ++l)
    expect(prefix(l) + "feed_forward.up.weight", {config.feed_forward, C});
  std::map<std::string, TensorSpecs> kinds;
  for (std::size_t l = 0; l < layers.size(); ++l) {
    Recipe alone;
    alone.layers.push_back(layers[l]);
    const auto [kind, fresh] = kinds.try_emplace(alone.text());
    if (fresh) kind->second = describe_mixer<Scalar>(List{}, layers[l], C);
    for (const TensorSpec& spec : kind->second) expect(prefix(l) + "mixer." + spec.name, file_shape(spec));
  }
}

inline constexpr std::string_view kTokenizerKind = "sentencepiece";
inline constexpr const char* kTokenizerTensor = "tokenizer.model";

/// The hash of a tokenizer's bytes.
inline std::string tokenizer_fingerprint(std::string_view model) {
  Fnv1a64 hash;
  hash.add(model);
  return hash.text();
}

/// The SentencePiece model in a file, none where its tokens are something else. Whether it is one is not looked at.
inline std::optional<std::string_view> stored_tokenizer(const SafetensorsFile& file) {
  const auto kind = file.metadata().find("tokenizer");
  if (kind == file.metadata().end()) return std::nullopt;
  const auto fail = [&](const std::string& problem) {
    throw std::runtime_error(file.source() + ": " + problem);
  };
  if (kind->second != kTokenizerKind)
    fail("metadata 'tokenizer' must be " + in_quotes(kTokenizerKind) + ", got " + in_quotes(kind->second));
  const TensorInfo& info = file.at(kTokenizerTensor);
  if (info.dtype != DType::u8 || info.shape.size() != 1)
    fail("tensor 'tokenizer.model' must be U8 [bytes], got " + std::string(dtype_name(info.dtype)) + " " +
         shape_text(info.shape));
  const std::span<const std::byte> bytes = file.bytes(info);
  if (bytes.size() > kMostTokenizerBytes)
    fail("tensor 'tokenizer.model' must have at most " + std::to_string(kMostTokenizerBytes) +
         " bytes, got " + std::to_string(bytes.size()));
  const std::string_view model(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  const auto stated = file.metadata().find("tokenizer.fingerprint");
  const std::string hash = tokenizer_fingerprint(model);
  if (stated == file.metadata().end() || stated->second != hash)
    fail("metadata 'tokenizer.fingerprint' must be that of the tokenizer, " + in_quotes(hash) + ", got " +
         (stated == file.metadata().end() ? "none" : in_quotes(stated->second)));
  return model;
}

/// Throws unless the tokenizer of a file, where it has one, has the vocabulary of its config.
inline void check_tokenizer(const SafetensorsFile& file, const LanguageModelConfig& config) {
  const std::optional<std::string_view> model = stored_tokenizer(file);
  if (!model) return;
  const SentencePieceVocabulary vocabulary(*model, file.source() + ": tensor 'tokenizer.model'");
  if (vocabulary.count() == config.vocabulary) return;
  throw std::runtime_error(file.source() + ": the vocabulary of the config, " +
                           std::to_string(config.vocabulary) + ", must be that of the tokenizer, got " +
                           std::to_string(vocabulary.count()));
}

/// Fills the tensors of `model`, all of them and from nothing else but a tokenizer.
template <class Model>
void read_tensors(const SafetensorsFile& file, Model& model) {
  std::set<std::string, std::less<>> names;
  if (file.metadata().contains("tokenizer")) names.emplace(kTokenizerTensor);
  Model::visit(TensorReader{file, stored_storage(file), names}, model);
  for (const TensorInfo& info : file.tensors()) {
    if (!names.contains(info.name)) {
      throw std::runtime_error(file.source() + ": expected no tensor but those of the config, got " +
                               in_quotes(info.name));
    }
  }
}

/// Throws std::invalid_argument unless the bytes of a tokenizer are a SentencePiece model of V ids, as load_model wants.
inline void check_written_tokenizer(std::string_view bytes, Index V) {
  constexpr const char* kWhat = "save_model: what model() of the tokenizer gives";
  Index count = 0;
  try {
    count = SentencePieceVocabulary(bytes, kWhat).count();
  } catch (const std::runtime_error& error) {
    throw std::invalid_argument(error.what());
  }
  if (count != V)
    throw std::invalid_argument(std::string(kWhat) + " must be a SentencePiece model of " +
                                std::to_string(V) + " ids, got " + std::to_string(count));
}

/// Writes a model, and a tokenizer where `tokenizer` is not empty.
template <class Model>
void write_model(const std::filesystem::path& path, const Model& model, std::string_view tokenizer) {
  model.check_tensors("save_model");
  if (!tokenizer.empty()) check_written_tokenizer(tokenizer, model.config().vocabulary);
  SafetensorsWriter writer;
  writer.set_metadata("format", std::string(kModelFormat));
  writer.set_metadata("version", std::string(kModelVersion));
  writer.set_metadata("config", config_to_json(model.config()));
  const Storage storage = model.storage();
  if (storage != Storage::kFloat) {
    writer.set_metadata(kStorageKey, std::string(storage_name(storage)));
    if (storage == Storage::kInt8) writer.set_metadata(kScaleGroupKey, std::to_string(kScaleGroup));
  }
  Model::visit(TensorWriter{writer, path, storage}, model);
  if (!tokenizer.empty()) {
    writer.set_metadata("tokenizer", std::string(kTokenizerKind));
    writer.set_metadata("tokenizer.fingerprint", tokenizer_fingerprint(tokenizer));
    writer.add(kTokenizerTensor, DType::u8, {static_cast<std::int64_t>(tokenizer.size())},
               std::as_bytes(std::span(tokenizer.data(), tokenizer.size())));
  }
  writer.write(path);
}

}  // namespace detail

/// Writes `model` to `path`. Throws std::runtime_error if the file cannot be written, with an existing file
/// untouched, or if a weight is not finite, and std::invalid_argument if a tensor has not the size that the config gives
/// it, since no such file would load.
template <class Model>
void save_model(const std::filesystem::path& path, const Model& model) {
  detail::write_model(path, model, {});
}

/// The same with what the ids stand for, which goes into the file where it has a SentencePiece model: where a member model()
/// gives text that is not empty. Throws std::invalid_argument too for a tokenizer of another vocabulary, and for a model()
/// that is none.
template <class Model, Tokenizer Text>
void save_model(const std::filesystem::path& path, const Model& model, const Text& tokenizer) {
  if (tokenizer.vocabulary() != model.config().vocabulary) {
    throw std::invalid_argument("save_model: the tokenizer must have the vocabulary of the model, " +
                                std::to_string(model.config().vocabulary) + ", got " +
                                std::to_string(tokenizer.vocabulary()));
  }
  if constexpr (requires { std::string_view(tokenizer.model()); }) {
    detail::write_model(path, model, tokenizer.model());
  } else {
    detail::write_model(path, model, {});
  }
}

/// The model in a file that is already in memory. Throws as load_model does.
template <class Model>
Model read_model(const SafetensorsFile& file) {
  const auto metadata = [&](const char* key) -> const std::string& {
    const auto found = file.metadata().find(key);
    if (found != file.metadata().end()) return found->second;
    throw std::runtime_error(file.source() + ": must be a model file with metadata '" + std::string(key) +
                             "', got none");
  };
  const auto expect = [&](const char* key, std::string_view value) {
    if (metadata(key) == value) return;
    throw std::runtime_error(file.source() + ": metadata '" + std::string(key) + "' must be " +
                             detail::in_quotes(value) + ", got " + detail::in_quotes(metadata(key)));
  };
  expect("format", kModelFormat);
  expect("version", kModelVersion);
  LanguageModelConfig config = detail::ModelConfigReader(metadata("config"), file.source()).read();
  try {
    detail::check_tokenizer(file, config);
    config.layers = detail::recipe_of_file(config, static_cast<const Model*>(nullptr));
    detail::check_model_sizes(file, config, static_cast<const Model*>(nullptr));
    Random random(1);
    Model model(config, random);
    detail::read_tensors(file, model);
    return model;
  } catch (const std::invalid_argument& error) {  // from recipe, schedule and layers
    throw std::runtime_error(file.source() + ": the config does not describe a model: " + error.what());
  }
}

/// The model in the file at `path`. A file of another floating-point type is converted, exactly but for F64 to
/// float; matrices in fewer bytes, where its metadata says that they are, stay so. Throws std::runtime_error, naming file,
/// what was expected and what came.
template <class Model>
Model load_model(const std::filesystem::path& path) {
  return read_model<Model>(SafetensorsFile::load(path));
}

}  // namespace hsm::inline HSM_ABI
