// SPDX-License-Identifier: MIT
//
// What --help shows, in two other forms: the manual page and the completion for bash. Both are read from the commands
// and options that CLI11 parses by, so none can lack what another has.
#pragma once

#include <CLI/CLI.hpp>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include <hsm/model/any_mixer.hpp>
#include <hsm/model/layer_list.hpp>
#include <hsm/version.hpp>

#include "examples/hsm_lm/commands.hpp"
#include "examples/hsm_lm/options.hpp"
#include "examples/support/numbers.hpp"

namespace hsm::examples {

namespace detail {

/// "-h" and "--help"; the name of an option without dashes, which stands for its place.
inline std::vector<std::string> names_of(const CLI::Option& option) {
  if (option.get_positional()) return {option.get_name(true)};
  std::vector<std::string> names;
  for (const std::string& name : option.get_snames()) names.push_back("-" + name);
  for (const std::string& name : option.get_lnames()) names.push_back("--" + name);
  return names;
}

inline std::string joined(const std::vector<std::string>& words, const std::string& between) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : between) + word;
  return text;
}

inline bool takes_value(const CLI::Option& option) { return option.get_items_expected_max() > 0; }

/// The words of which an option takes one; none where it takes other values. CLI11 calls them "TEXT:{one,two}".
inline std::vector<std::string> choices_of(const CLI::Option& option) {
  const std::string type = option.get_type_name(), open = ":{";
  const std::size_t at = type.find(open);
  if (at == std::string::npos) return {};
  const std::size_t first = at + open.size();
  return CLI::detail::split(type.substr(first, type.find('}') - first), ',');
}

inline std::vector<const CLI::App*> commands_of(const CLI::App& app) {
  return app.get_subcommands([](const CLI::App*) { return true; });
}

// ------------------------------------------------------------------------------------------------- manual page

/// Text as roff shows it letter by letter: no request, no escape, and ASCII for what is typed. Lines may be broken
/// behind commas, as in recipes.
inline std::string roff(std::string_view text) {
  std::string escaped = text.starts_with('.') ? "\\&" : "";
  for (const char c : text) {
    switch (c) {
      case '\\':
        escaped += "\\e";
        break;
      case '-':
        escaped += "\\-";
        break;
      case ',':
        escaped += ",\\:";
        break;
      case '\'':
        escaped += "\\(aq";
        break;
      case '^':
        escaped += "\\(ha";
        break;
      case '~':
        escaped += "\\(ti";
        break;
      default:
        escaped += c;
    }
  }
  return escaped;
}

inline std::string bold(std::string_view text) { return "\\fB" + roff(text) + "\\fR"; }
inline std::string italic(std::string_view text) { return "\\fI" + roff(text) + "\\fR"; }

/// An entry of a list; `tag` is roff already.
inline std::string entry(const std::string& tag, std::string_view text) {
  return ".TP\n" + tag + "\n" + roff(text) + "\n";
}

/// "--text FILE", as roff.
inline std::string usage_of(const CLI::Option& option) {
  if (option.get_positional()) return italic(option.get_name(true));
  const std::string names = bold(joined(names_of(option), ","));
  if (!takes_value(option)) return names;
  const auto choices = choices_of(option);
  return names + " " + italic(choices.empty() ? option.get_type_name() : joined(choices, "|"));
}

/// The options that are not --help, which all commands have.
inline std::string option_entries(const CLI::App& command) {
  std::string entries;
  for (const CLI::Option* option : command.get_options()) {
    if (option == command.get_help_ptr()) continue;
    std::vector<std::string> notes;
    if (option->get_required()) notes.emplace_back("required");
    if (!option->get_default_str().empty()) notes.push_back("default " + option->get_default_str());
    // In the order of the options: CLI11 keeps them by their addresses.
    for (const CLI::Option* other : command.get_options()) {
      auto* const same = const_cast<CLI::Option*>(other);
      if (option->get_needs().count(same) > 0) notes.push_back("needs " + names_of(*other).back());
      if (option->get_excludes().count(same) > 0) notes.push_back("not with " + names_of(*other).back());
    }
    entries += entry(usage_of(*option),
                     option->get_description() + (notes.empty() ? "" : " (" + joined(notes, "; ") + ")"));
  }
  return entries;
}

/// The layers of a list, and what a recipe may say of each.
template <template <class> class... Entries>
std::string layer_entries(LayerList<Entries...> list) {
  std::string entries;
  const auto add = [&](std::string_view name) {
    std::vector<std::string> options;
    for (const PolicyOption& option : options_of(list, name))
      options.push_back(std::string(option.name) + " (" +
                        bounds_text(Bounds<Index>{option.least, option.most}) + ")");
    entries += entry(bold(name), options.empty() ? "no options" : joined(options, ", "));
  };
  (add(Entries<float>::kName), ...);
  return entries;
}

}  // namespace detail

/// The manual page of the tool, in the macros of man(7).
inline std::string man_page(const CLI::App& app) {
  using namespace detail;
  const std::string& name = app.get_name();
  std::string page =
      ".TH HSM_LM 1 \"\" \"hsm " + std::string(hsm::kVersion) + "\" \"User Commands\"\n.nh\n.ad l\n";
  page +=
      ".SH NAME\n" + name + " \\- train, run and compare language models with Hierarchical Shift Mixing\n";
  page += ".SH SYNOPSIS\n";
  for (const CLI::App* command : commands_of(app)) {
    page += bold(name + " " + command->get_name()) + " ";
    for (const CLI::Option* option : command->get_options())
      if (option->get_required()) page += usage_of(*option) + " ";
    page += "[" + italic("options") + "]\n.br\n";
  }
  page += ".SH DESCRIPTION\n" + roff(app.get_description()) +
          "\nModels are of bytes, or of pieces of words; their layers mix tokens by shifts, by attention, or "
          "by both.\n"
          "Results go to the standard output, progress and remarks to the standard error output.\n";
  page += ".SH OPTIONS\n" + entry(usage_of(*app.get_help_ptr()),
                                  app.get_help_ptr()->get_description() + "; every command has it");
  page += option_entries(app) + ".SH COMMANDS\n";
  for (const CLI::App* command : commands_of(app))
    page += ".SS " + command->get_name() + "\n" + roff(command->get_description()) + ".\n" +
            option_entries(*command);
  page +=
      ".SH RECIPES\n" +
      roff(
          "A recipe is [count*]name[:option=N]..., separated by commas, such as 3*ab,attention:heads=4,3*ab. "
          "The layers, and the options of each:") +
      "\n" + layer_entries(StandardLayers{});
  page += ".SH FILES\n" + entry(italic("text"), "any bytes, in a file or a pipe") +
          entry(italic("tokenizer"), "a SentencePiece model, as tokenize writes it") +
          entry(italic("model"),
                "safetensors, with the configuration in the metadata and the tokenizer, if there is one") +
          entry(italic("checkpoint"), "the whole state of a run of train, for --resume") +
          entry(italic("session"), "what generate needs to go on with a text") +
          ".PP\nTokenizers, models, checkpoints and sessions are written beside their place and then moved "
          "there: none is left half written.\n";
  page += ".SH EXIT STATUS\n";
  for (const auto& [code, meaning] : kExitCodes) page += entry(bold(std::to_string(code)), meaning);
  page += ".SH EXAMPLES\n.nf\n" +
          roff("hsm_lm train --text book.txt --layers 7*gated --out book.safetensors") + "\n" +
          roff("hsm_lm generate --model book.safetensors --prompt \"Once upon\"") + "\n.fi\n";
  return page + ".SH SEE ALSO\n" + bold("mpirun") + "(1), arXiv 2601.22852\n";
}

// -------------------------------------------------------------------------------------------------- completion

/// The completion for bash: commands, the options of each, names of files, and words to choose from.
inline std::string bash_completion(const CLI::App& app) {
  using namespace detail;
  std::string cases;
  const auto add = [&](const CLI::App& command, const std::string& name) {
    std::vector<std::string> words, files, others;
    for (const CLI::App* next : commands_of(command)) words.push_back(next->get_name());
    for (const CLI::Option* option : command.get_options()) {
      const std::vector<std::string> choices = choices_of(*option);
      if (option->get_positional()) {
        words.insert(words.end(), choices.begin(), choices.end());
        continue;
      }
      for (const std::string& each : names_of(*option)) {
        const std::string pattern = name + ":" + each;
        words.push_back(each);
        if (!choices.empty()) {
          cases += "    " + pattern + ") words=\"" + joined(choices, " ") + "\" ;;\n";
        } else if (takes_value(*option)) {
          (option->get_type_name() == kFileType ? files : others).push_back(pattern);
        }
      }
    }
    if (!files.empty()) cases += "    " + joined(files, " | ") + ") compopt -o default ;;\n";
    if (!others.empty()) cases += "    " + joined(others, " | ") + ") ;;\n";
    cases += "    " + name + ":*) words=\"" + joined(words, " ") + "\" ;;\n";
  };
  for (const CLI::App* command : commands_of(app)) add(*command, command->get_name());
  add(app, "");
  return "# Completion of hsm_lm " + std::string(hsm::kVersion) +
         R"(, for bash; hsm_lm --completion prints it.
_hsm_lm() {
  local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} command= words=
  if ((COMP_CWORD > 1)); then command=${COMP_WORDS[1]}; fi
  # Of --option=value, bash makes three words.
  if [[ $word == = ]]; then
    word=
  elif [[ $before == = ]]; then
    before=${COMP_WORDS[COMP_CWORD - 2]}
  fi
  COMPREPLY=()
  case $command:$before in
)" + cases +
         R"(  esac
  mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
}
complete -F _hsm_lm hsm_lm
)";
}

}  // namespace hsm::examples
