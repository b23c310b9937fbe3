// SPDX-License-Identifier: MIT
//
// Prints the built-in stories, for the page's model to be trained on:   stories BYTES > stories.txt

#include <cstdio>
#include <cstdlib>
#include <string>

#include "examples/support/stories.hpp"

int main(int argc, char** argv) {
  char* end = nullptr;
  const unsigned long bytes = argc == 2 ? std::strtoul(argv[1], &end, 10) : 0;
  if (argc != 2 || argv[1][0] < '1' || argv[1][0] > '9' || *end != '\0') {
    std::fprintf(stderr, "stories: expected one argument, how many bytes to write, got %s\n",
                 argc == 2 ? argv[1] : "another number of them");
    return 2;
  }
  const std::string text = hsm::examples::make_stories({.bytes = bytes}).text;
  return std::fwrite(text.data(), 1, text.size(), stdout) == text.size() && std::fflush(stdout) == 0 ? 0 : 2;
}
