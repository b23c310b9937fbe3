# SPDX-License-Identifier: MIT
"""Builds and runs test programs against a copy of include/; keeps the objects that a mutant does not change."""

import hashlib
import os
import re
import resource
import signal
import subprocess
import threading

FLAGS = ["-std=c++20", "-O1", "-w", "-march=x86-64-v3", "-D_GLIBCXX_ASSERTIONS",
         "-fsanitize=bounds", "-fsanitize-undefined-trap-on-error"]  # of arrays, as the sanitized tests see them
COMMON = "#include <gtest/gtest.h>\n#include <Eigen/Core>\n"  # read once: nothing of ours
FLOAT_ALONE = {"shift", "attention"}
SECONDS = 60  # of processor time that a test program may take; ten times as long by the clock
MEMORY = 4 << 30  # that it may take

# What kills most of a folder's mutants, tried after the program of the header's own name.
LIKELY = {
    "core": ["elementwise", "product", "tokens", "workspace", "linear"],
    "schedule": ["schedule", "coverage", "schedule_text"],
    "shift": ["streams", "gradients", "modes", "in_place", "stack", "forward", "errors", "rewind", "policies/pair_rows"],
    "attention": ["state_gradient", "modes", "state", "through_time", "gradients", "errors", "forward"],
}
# Policies that the programs of shift/ are compiled with: those that a header is about, and for what all share a few
# that differ most, then all of them. Less is what makes a mutant cheap.
PAIR_ROWS = "ScalarPair ChannelPair"
DIFFERENT = "ScalarPair GatedPair SoftmaxLocal"

# Sources of tests/support that hold what a header of the tests only declares.
INSTANCES = {"shift/mixer_engines.hpp": "support/mixer_instances.cpp",
             "attention/attention_engine.hpp": "support/attention_instances.cpp",
             "hierarchical_attention/hierarchy_engine.hpp": "support/hierarchy_instances.cpp",
             "recurrent/recurrent_engine.hpp": "support/hierarchy_instances.cpp"}


def limits():
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


class Programs:
    def __init__(self, root, work):
        self.root, self.tests, self.work = root, root / "tests", work
        self.objects = work / "objects"
        self.objects.mkdir(parents=True, exist_ok=True)
        self.unsound = {}
        self.lock = threading.Lock()

    def compiler(self, flags):
        """The compiler with the headers that all programs have in common."""
        with self.lock:
            name = hashlib.sha256(" ".join(flags).encode()).hexdigest()[:12]
            header = self.work / f"common_{name}.hpp"
            if not header.with_suffix(".hpp.gch").exists():
                header.write_text(COMMON)
                partial = header.with_suffix(f".{os.getpid()}.gch")
                subprocess.run(["g++", *flags, "-isystem", "/usr/include/eigen3", "-x", "c++-header", str(header), "-o",
                                str(partial)], check=True)
                partial.rename(header.with_suffix(".hpp.gch"))
        return ["g++", *flags, "-include", str(header)]

    def policies_of(self, file):
        """The policies that a header is about; nothing where all share it."""
        if file.endswith("/pair_rows.hpp"):
            return PAIR_ROWS
        found = re.search(r"struct (\w+) \{", (self.root / "include/hsm" / file).read_text())
        return found[1] if found and "/policies/" in file else ""

    def forms(self, file):
        """Flags of the forms of a folder's programs that a mutant of the header is tried with, one after another."""
        folder = file.partition("/")[0]
        flags = FLAGS + (["-DHSM_TEST_FLOAT_ALONE"] if folder in FLOAT_ALONE else [])
        if folder != "shift":
            return [flags]
        own = self.policies_of(file)
        chosen = (own or DIFFERENT).split()
        few = ["-DHSM_TEST_POLICIES=" + ",".join(chosen),
               "-DHSM_TEST_ENGINES(use)=" + "".join(f"use({policy})" for policy in chosen)]
        return [flags + few] if own else [flags + few, flags]

    def closure(self, source, include):
        """Our files that a source reads."""
        found, todo = [], [source]
        while todo:
            file = todo.pop()
            if file in found:
                continue
            found.append(file)
            for name in re.findall(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]', file.read_text(), re.MULTILINE):
                for folder in (include, self.tests, self.root):
                    if (folder / name).is_file():
                        todo.append(folder / name)
                        break
        return found

    def of(self, file):
        """The test programs of a header's folder that include it, the likeliest first."""
        folder, _, name = file.removesuffix(".hpp").partition("/")
        likely = [name] + LIKELY[folder]
        header = self.root / "include/hsm" / file
        sources = [s for s in (self.tests / folder).rglob("*_test.cpp")
                   if header in self.closure(s, self.root / "include")]

        def rank(source):
            own = str(source.relative_to(self.tests / folder)).removesuffix("_test.cpp")
            return (likely.index(own) if own in likely else len(likely), own)
        return sorted(sources, key=rank)

    def compile(self, source, include, flags, scratch):
        """Returns (object, "") or (None, what the compiler said)."""
        files = self.closure(source, include)
        digest = hashlib.sha256(" ".join(flags).encode())
        for file in files:
            digest.update(file.read_bytes())
        changed = any(scratch in file.parents and file.read_bytes() != self.original(file, include) for file in files)
        output = (scratch if changed else self.objects) / (digest.hexdigest()[:24] + ".o")
        if output.exists():
            return output, ""
        partial = output.with_suffix(f".{os.getpid()}.{id(files)}.o")
        done = subprocess.run([*self.compiler(flags), f"-I{include}", f"-I{self.root}", f"-I{self.tests}", "-isystem",
                               "/usr/include/eigen3", "-c", str(source), "-o", str(partial)],
                              capture_output=True, text=True)
        if done.returncode != 0:
            partial.unlink(missing_ok=True)
            return None, done.stderr
        partial.rename(output)
        return output, ""

    def original(self, file, include):
        return (self.root / "include" / file.relative_to(include)).read_bytes()

    def run(self, source, include, flags, scratch):
        """"" where the program passes, else what happened; "stillborn" where it cannot be compiled."""
        read = {str(f.relative_to(self.tests)) for f in self.closure(source, include) if self.tests in f.parents}
        objects = []
        for part in [source] + [self.tests / name for name in sorted({INSTANCES[name] for name in read & set(INSTANCES)})]:
            made, said = self.compile(part, include, flags, scratch)
            if made is None:
                by_test = re.search(r"tests/\S+: error: (static assertion failed|non-constant condition)", said)
                return "does not compile: an assertion of the test" if by_test else "stillborn"
            objects.append(made)
        program = scratch / "program"
        done = subprocess.run(["g++", *map(str, objects), "-o", str(program), "-lgtest", "-lgtest_main", "-lpthread"],
                              capture_output=True, text=True)
        if done.returncode != 0:
            return "stillborn"
        try:
            done = subprocess.run([str(program), "--gtest_fail_fast", "--gtest_brief=1"], cwd=scratch, preexec_fn=limits,
                                  capture_output=True, text=True, errors="replace", timeout=10 * SECONDS)
        except subprocess.TimeoutExpired:
            return "does not end"
        if done.returncode in (-signal.SIGXCPU, -signal.SIGKILL):
            return f"takes longer than {SECONDS} s"
        if done.returncode < 0:
            return f"ended by signal {-done.returncode}"
        if done.returncode == 0:
            return ""
        failed = re.search(r"\[  FAILED  \] (\S+?),? ", done.stdout)
        return failed.group(1) if failed else f"exit code {done.returncode}"

    def refuses_otherwise(self, folder, include):
        """Whether the programs that must not compile say something else than they should, and did not as things are."""
        if not (self.tests / folder / "must_not_compile").is_dir():
            return False
        return self.fails_to_refuse(folder, include) and not self.fails_to_refuse(folder, self.root / "include")

    def fails_to_refuse(self, folder, include):
        done = subprocess.run(["bash", str(self.tests / "must_not_compile.sh"), folder], capture_output=True,
                              env={**os.environ, "CXX": "g++", "EIGEN": "/usr/include/eigen3", "INCLUDE": str(include)})
        return done.returncode != 0

    def is_sound(self, source, flags, scratch):
        """Whether the program passes as things are: only then a failure says something."""
        digest = hashlib.sha256(" ".join(flags).encode())
        for file in self.closure(source, self.root / "include"):
            digest.update(file.read_bytes())
        passed = self.objects / (digest.hexdigest()[:24] + ".passed")
        if not passed.exists() and source not in self.unsound:
            said = self.run(source, self.root / "include", flags, scratch)
            if said:
                self.unsound[source] = said
            else:
                passed.touch()
        return source not in self.unsound
