// SPDX-License-Identifier: MIT
//
// The scripts of the repository: what they do not take is told in a sentence, exit code 2, before anything is built.
// They run as copies, beside stand-ins for what installs, builds and compiles.
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "io/io_test_support.hpp"
#include "pages.hpp"

namespace hsm::test::scripts_test {
namespace {

class Scripts : public ::testing::Test {
 protected:
  Scripts() {
    for (const char* name : {".ci/setup", ".ci/build", ".ci/single-header", "one++", "two++"})
      stand_in(name, name[0] == '.' ? "#!/bin/sh\necho begun\n" : "#!/bin/sh\n" + compile());
    stand_in(".ci/jobs", "#!/bin/sh\necho 2\n");
    stand_in(".ci/runs-level", "#!/bin/sh\n");
  }

  /// Finds what is behind -o, and makes a program of it that does nothing.
  static std::string compile() {
    return "while [ \"$1\" != -o ]; do shift; done\ncp /bin/true \"$2\"\nchmod +x \"$2\"\n";
  }

  void stand_in(const std::string& name, const std::string& text) const {
    std::filesystem::create_directories((work_ / name).parent_path());
    write_raw(work_ / name, text);
    std::filesystem::permissions(work_ / name, std::filesystem::perms::owner_all);
  }

  /// The exit code of a copy of the script, and what it says on both streams.
  std::pair<int, std::string> run(const std::string& script, const std::string& arguments) const {
    stand_in(script, source_text(script));
    const std::string folder = work_.path().string();
    const std::string command =
        "cd '" + folder + "' && PATH='" + folder + "':$PATH bash " + script + " " + arguments + " 2>&1";
    std::FILE* stream = ::popen(command.c_str(), "r");
    std::string said;
    for (int c = 0; (c = std::fgetc(stream)) != EOF;) said += static_cast<char>(c);
    const int status = ::pclose(stream);
    return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, said};
  }

  TemporaryDirectory work_;
};

TEST_F(Scripts, SayWhatTheyDoNotTakeBeforeAnythingIsBuilt) {
  for (const auto& [script, arguments, words] :
       std::vector<std::tuple<std::string, std::string, std::string>>{
           {"bench/paper/run.sh", "", "takes quick, text or task, got ''"},
           {"bench/paper/run.sh", "quick --name x", "--name goes with text alone"},
           {"bench/paper/run.sh", "quick --text x", "quick is on the built-in stories"},
           {"bench/paper/run.sh", "task", "task takes the name of one"},
           {"bench/paper/run.sh", "task --steps 5", "task takes the name of one, and no text, got '--steps'"},
           {"bench/paper/run.sh", "task --name x", "task takes the name of one"},
           {"bench/paper/run.sh", "task copy --name=x", "--name goes with text alone"},
           {"bench/paper/run.sh", "text", "text needs --text FILE"},
           {"bench/paper/run.sh", "text --text", "--text takes a file, got nothing"},
           {"bench/paper/run.sh", "text --text=", "--text takes a file, got nothing"},
           {"bench/paper/run.sh", "text --text x --name", "--name takes letters"},
           {"bench/paper/run.sh", "text --text x --out=y", "--name says how they begin"},
           {"tests/run.sh", "--fast --sanitize address", "--fast does not go with --sanitize"},
           {"tests/run.sh", "--sanitize address --fast", "--fast does not go with --sanitize"},
           {"tests/run.sh", "--sanitize address --sanitize thread", "--sanitize is given twice"},
           {"tests/run.sh", "--sanitize", "--sanitize takes address or thread, got ''"},
           {"tests/run.sh", "-R a -R b", "-R is given twice"},
           {"tests/run.sh", "--tool", "--tool goes with --sanitize address alone"},
           {"tests/run.sh", "--sanitize thread --tool", "--tool goes with --sanitize address alone"},
           {".ci/run", "--help", "ci: takes no arguments, got '--help'"},
           {".ci/docs", "x", "docs: takes no arguments, got 'x'"},
           {".ci/packages", "x", "packages: takes no arguments, got 'x'"},
           {".ci/levels", "", "levels: name at least one compiler"},
           {".ci/levels", "x86-64-v3", "levels: name at least one compiler"},
           {".ci/switches", "", "switches: name at least one compiler"},
           {".ci/switches", "-DX", "switches: name at least one compiler"},
           {".ci/headers", "", "headers: name at least one compiler"}}) {
    SCOPED_TRACE(script + " " + arguments);
    const auto [code, said] = run(script, arguments);
    EXPECT_EQ(code, 2);
    EXPECT_TRUE(mentions(said, {words}));
    EXPECT_EQ(said.find("begun"), std::string::npos) << said;
    EXPECT_TRUE(said.ends_with("\n") && said.find('\n') + 1 == said.size()) << "one sentence: " << said;
  }
}

TEST_F(Scripts, TakeWhatTheySay) {
  const auto said_by = [&](const std::string& script, const std::string& arguments) {
    return run(script, arguments).second;
  };
  EXPECT_TRUE(mentions(said_by(".ci/switches", "one++ two++ -DX -DY"),
                       {"switches: one++ -DX -DY: every", "switches: two++ -DX -DY: every"}));
  EXPECT_TRUE(
      mentions(said_by(".ci/switches", "one++"),
               {"switches: one++ -fopenmp: every", "switches: one++ -O3 -ffast-math -march=x86-64: every"}));
  stand_in(".ci/build", "#!/bin/sh\necho \"builds $*\"\nexit 1\n");
  for (const auto& [arguments, preset] :
       std::vector<std::pair<std::string, std::string>>{{"", "tests-gcc"},
                                                        {"--fast --fast", "tests-gcc-fast"},
                                                        {"--fast --clang", "tests-clang-fast"},
                                                        {"--clang", "tests-clang"},
                                                        {"--clang --sanitize thread", "tests-clang-thread"}})
    EXPECT_TRUE(mentions(said_by("tests/run.sh", arguments), {"builds " + preset + "\n"})) << arguments;
  stand_in(".ci/runs-level", "#!/bin/sh\nexit 1\n");  // an older processor
  EXPECT_TRUE(mentions(said_by("tests/run.sh", "--fast"),
                       {"does not run x86-64-v3", "CMAKE_CXX_FLAGS_RELEASE=-O3 -ffast-math -DNDEBUG\n"}));
  EXPECT_TRUE(mentions(said_by(".ci/switches", "one++"),
                       {"-march=x86-64-v3: left out", "switches: one++ -fopenmp: every"}));
}

TEST_F(Scripts, RunAsManyJobsAsTheyMay) {
  ::setenv("OMP_NUM_THREADS", "77", 1);
  EXPECT_NE(run(".ci/jobs", "").second, "77\n");
  ::unsetenv("OMP_NUM_THREADS");
  ::setenv("CMAKE_BUILD_PARALLEL_LEVEL", "3", 1);
  EXPECT_EQ(run(".ci/jobs", "").second, "3\n");
  ::setenv("CMAKE_BUILD_PARALLEL_LEVEL", "none", 1);
  EXPECT_EQ(run(".ci/jobs", "").first, 2);
  ::unsetenv("CMAKE_BUILD_PARALLEL_LEVEL");
}

}  // namespace
}  // namespace hsm::test::scripts_test
