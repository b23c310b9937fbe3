// SPDX-License-Identifier: MIT
//
// hsm_lm tokenize: learns the pieces of a text.

#include <cstdint>
#include <cstdio>
#include <memory>
#include <stdexcept>
#include <string>

#include <hsm/io/output_file.hpp>
#include <hsm/io/sentencepiece_training.hpp>

#include "examples/hsm_lm/commands.hpp"
#include "examples/hsm_lm/options.hpp"
#include "examples/hsm_lm/texts.hpp"
#include "examples/support/paths.hpp"
#include "examples/support/process.hpp"
#include "examples/support/terminal.hpp"
#include "examples/support/text.hpp"

namespace hsm::examples {
namespace {

struct TokenizeOptions {
  std::string text, out;
  std::int32_t vocabulary = 1024;
};

/// The tokenizer of a text; what goes wrong names its file.
SentencePieceTokenizer learn(const TokenizeOptions& options, const std::string& text) {
  const auto told = [&](const std::exception& error) {
    return options.text + ": " + without_name(error.what());
  };
  try {
    return train_sentencepiece(text, options.vocabulary);
  } catch (const std::invalid_argument& error) {
    throw std::invalid_argument(told(error));
  } catch (const std::runtime_error& error) {
    throw std::runtime_error(told(error));
  }
}

void run_tokenize(const TokenizeOptions& options) {
  CommandFiles files;
  files.reads("--text", options.text);
  files.writes("--out", options.out);
  if (!SentencePieceTokenizer::kAvailable)
    throw std::runtime_error("tokenize needs SentencePiece, and this hsm_lm was built without it");
  OutputFile file(options.out);
  const std::string text = read_text(options.text);
  const SentencePieceTokenizer tokenizer = learn(options, text);
  const auto tokens = static_cast<double>(tokenizer.encode(text).size());
  file.write(tokenizer.model());
  file.commit();
  file_is_written();
  std::printf("%s: saved, %s; the text has %s, %s, %.3f bytes per token\n", shown(options.out).c_str(),
              counted(tokenizer.vocabulary(), "token").c_str(), counted(text.size(), "byte").c_str(),
              counted(tokens, "token").c_str(), static_cast<double>(text.size()) / tokens);
  settle_output();
}

}  // namespace

void add_tokenize(CLI::App& app) {
  auto options = std::make_shared<TokenizeOptions>();
  CLI::App* command = app.add_subcommand("tokenize",
                                         "Learn the pieces of a text, which train --tokenizer can take as "
                                         "tokens instead of bytes; needs SentencePiece");
  add_file(*command, "--text", options->text, "file to learn from")->required();
  add_file(*command, "--out", options->out, "tokenizer file to write, a SentencePiece model")->required();
  add_number(*command, "--vocab", options->vocabulary, Bounds<std::int32_t>{257, std::int32_t{1} << 20},
             "number of different tokens: 256 bytes, and pieces");
  command->callback([options] { run_tokenize(*options); });
}

}  // namespace hsm::examples
