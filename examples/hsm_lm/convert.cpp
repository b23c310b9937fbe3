// SPDX-License-Identifier: MIT
//
// hsm_lm convert: a model file whose matrices take fewer bytes, or are floats again.

#include <cstdio>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>

#include <hsm/io/output_file.hpp>

#include "examples/hsm_lm/commands.hpp"
#include "examples/hsm_lm/model.hpp"
#include "examples/hsm_lm/options.hpp"
#include "examples/support/paths.hpp"
#include "examples/support/terminal.hpp"
#include "examples/support/text.hpp"

namespace hsm::examples {
namespace {

struct ConvertOptions {
  std::string model, out, storage;
};

void run_convert(const ConvertOptions& options) {
  CommandFiles files;
  files.reads("--model", options.model);
  files.writes("--out", options.out);
  const OutputFile probe(options.out);
  check_regular(options.model);
  const SafetensorsFile file = SafetensorsFile::load(options.model);
  Model model = detail::read_described_model(file);
  const auto before = static_cast<double>(parameter_bytes(model));
  try {
    store_matrices(model, find_storage(options.storage).value());
  } catch (const std::invalid_argument& error) {
    throw std::invalid_argument(options.model + ": " + without_name(error.what()));
  }
  // The tokenizer goes along as it is: nothing is encoded here.
  hsm::detail::write_model(options.out, model,
                           hsm::detail::stored_tokenizer(file).value_or(std::string_view()));
  file_is_written();
  std::printf("%s: saved as %s, %s of weights instead of %s\n", shown(options.out).c_str(),
              options.storage.c_str(), bytes_text(static_cast<double>(parameter_bytes(model))).c_str(),
              bytes_text(before).c_str());
  settle_output();
}

}  // namespace

void add_convert(CLI::App& app) {
  auto options = std::make_shared<ConvertOptions>();
  CLI::App* command = app.add_subcommand("convert",
                                         "Store the matrices of a model in fewer bytes, for generate and "
                                         "evaluate; training needs float");
  add_file(*command, "--model", options->model, "model file")->required();
  command
      ->add_option(
          "--storage", options->storage,
          "bf16, half the bytes of float; int8, a bit more than a quarter; float, which gives back no "
          "digits that were lost")
      ->check(CLI::IsMember({"float", "bf16", "int8"}))
      ->required();
  add_file(*command, "--out", options->out, "model file to write")->required();
  command->callback([options] { run_convert(*options); });
}

}  // namespace hsm::examples
