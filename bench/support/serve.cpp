// SPDX-License-Identifier: MIT
#include "bench/support/serve.hpp"

#include <algorithm>
#include <istream>
#include <ostream>

#include "bench/support/measure.hpp"
#include "bench/support/registry.hpp"

namespace hsm::bench {
namespace {

/// "ok" or what is wrong.
std::string set_up(const std::string& name, std::unique_ptr<Case>& current, int& repeats) {
  current.reset();
  const std::vector<Entry>& all = entries();
  const auto entry = std::find_if(all.begin(), all.end(), [&](const Entry& e) { return e.name == name; });
  if (entry == all.end()) return "wrong: no case of this name";
  current = entry->make();
  const std::string wrong = current->verify ? current->verify() : "";
  if (!wrong.empty()) {
    current.reset();
    return "wrong: " + wrong;
  }
  repeats = repeats_for(current->work);
  return "ok";
}

}  // namespace

void serve(std::istream& in, std::ostream& out) {
  std::unique_ptr<Case> current;
  int repeats = 1;
  for (std::string line; std::getline(in, line);) {
    if (line == "list") {
      for (const Entry& entry : entries()) out << entry.name << '\n';
      out << std::endl;
    } else if (line.rfind("make ", 0) == 0) {
      out << set_up(line.substr(5), current, repeats) << std::endl;
    } else if (line == "run" && current) {
      out << seconds_of(current->work, repeats) << std::endl;
    } else if (line == "drop") {
      current.reset();
      out << "ok" << std::endl;
    } else {
      out << "wrong: " << line << std::endl;
    }
  }
}

}  // namespace hsm::bench
