// SPDX-License-Identifier: MIT
//
// A small model with every kind of layer that has matrices, its file in parts, and a file that a test has changed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <hsm/io/model_file.hpp>
#include <hsm/model/session.hpp>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "io/io_test_support.hpp"
#include "support/matchers.hpp"
#include "support/models.hpp"

namespace hsm::test::model_file_parts {

using Net = LanguageModel<float>;

inline LanguageModelConfig small_config() {
  return {.vocabulary = 13,
          .width = 8,
          .feed_forward = 10,
          .context = 7,
          .positions = Positions::kLearned,
          .layers = "2*ab:heads=2,gated,gated-pair,softmax-local:heads=2:taps=3,attention",
          .schedule = "cyclic=3"};
}

template <class Scalar = float>
LanguageModel<Scalar> make_model(const LanguageModelConfig& config = small_config()) {
  Random random(4);
  return LanguageModel<Scalar>(config, random);
}

template <class Scalar>
std::map<std::string, std::vector<Scalar>> tensors_of(const LanguageModel<Scalar>& model) {
  std::map<std::string, std::vector<Scalar>> tensors;
  LanguageModel<Scalar>::visit(
      [&](std::string_view name, const auto& tensor) {
        tensors[std::string(name)] = std::vector<Scalar>(tensor.data(), tensor.data() + tensor.size());
      },
      model);
  return tensors;
}

template <class Scalar>
void expect_same_model(const LanguageModel<Scalar>& got, const LanguageModel<Scalar>& expected) {
  EXPECT_EQ(config_to_json(got.config()), config_to_json(expected.config()));
  EXPECT_EQ(got.schedule().text(), expected.schedule().text());
  const auto a = tensors_of(got), b = tensors_of(expected);
  ASSERT_EQ(a.size(), b.size());
  for (const auto& [name, values] : b) expect_same_bits(a.at(name), values, name);
}

/// A tensor of a file that a test may change.
struct Stored {
  DType dtype;
  std::vector<std::int64_t> shape;
  std::vector<std::byte> bytes;
};

/// A model file in parts.
struct Parts {
  std::map<std::string, std::string> metadata;
  std::map<std::string, Stored> tensors;
};

/// A correct model file, changed by `edit` and written again.
inline void write_changed(const std::filesystem::path& path, const std::function<void(Parts&)>& edit,
                          const Net& model = make_model()) {
  save_model(path, model);
  Parts parts;
  {
    const SafetensorsFile file = SafetensorsFile::load(path);
    for (const auto& [key, value] : file.metadata()) parts.metadata[key] = value;
    for (const TensorInfo& info : file.tensors()) {
      const auto bytes = file.bytes(info);
      parts.tensors[info.name] = {info.dtype, info.shape, {bytes.begin(), bytes.end()}};
    }
  }
  edit(parts);
  SafetensorsWriter writer;
  for (const auto& [key, value] : parts.metadata) writer.set_metadata(key, value);
  for (const auto& [name, tensor] : parts.tensors) writer.add(name, tensor.dtype, tensor.shape, tensor.bytes);
  writer.write(path);
}

}  // namespace hsm::test::model_file_parts
