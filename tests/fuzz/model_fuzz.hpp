// SPDX-License-Identifier: MIT
//
// Model files, the configuration in them included: the bytes of a whole file. What is not refused with
// std::runtime_error is a model of finite weights that saves to a file with the same tensors and the canonical
// text of its configuration.
#pragma once

#include <stdexcept>
#include <string>
#include <vector>

#include <hsm/io/model_file.hpp>

#include "fuzz/property.hpp"
#include "fuzz/scratch.hpp"

namespace hsm::test {

/// Returns whether `input` is a model file.
inline bool fuzz_model_file(Input input) {
  using Model = LanguageModel<float>;
  std::vector<SafetensorsFile> file;
  std::vector<Model> models;
  const bool read = accepts<std::runtime_error>("file: ", [&] {
    file.push_back(SafetensorsFile::parse(bytes_of(input), "file"));
    models.push_back(read_model<Model>(file[0]));
  });
  if (!read) return false;

  Model& model = models[0];
  std::size_t tensors = 0;
  Model::visit(
      [&](std::string_view name, const auto& tensor) {
        ++tensors;
        require(tensor.allFinite(), "a weight must be finite");
        require(file[0].at(name).shape == detail::file_shape(tensor),
                "a tensor must have the shape of the file");
      },
      std::as_const(model));
  require(tensors == file[0].tensors().size(), "no tensor of the file may be left out");

  const auto path = scratch_file("model");
  save_model(path, model);
  Model again = load_model<Model>(path);
  require(config_to_json(again.config()) == config_to_json(model.config()), "the config must come back");
  Model::visit(
      [](std::string_view, const auto& a, const auto& b) { require(a == b, "the weights must come back"); },
      std::as_const(model), std::as_const(again));
  return true;
}

}  // namespace hsm::test
