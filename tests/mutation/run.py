# SPDX-License-Identifier: MIT
"""Runs mutants of include/hsm against the tests; see run.sh."""

import argparse
import collections
import pathlib
import shutil
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor

from mutants import draw
from programs import FLAGS, Programs

ROOT = pathlib.Path(__file__).resolve().parents[2]
WORK = ROOT / "build/mutation"
FOLDERS = ["core", "schedule", "shift", "attention"]
UNCOUNTED = {"stillborn", "unseen"}


def explained():
    """{(file, line as it is, line as it would be): reason} of equivalent.txt, whose entries are a file, the two lines
    behind - and +, and the reason, and end with an empty line."""
    found = {}
    text = (ROOT / "tests/mutation/equivalent.txt").read_text()
    for entry in filter(None, (e.strip() for e in text.split("\n\n"))):
        lines = [line for line in entry.split("\n") if not line.startswith("#")]
        if not lines:
            continue
        if len(lines) < 4 or not lines[1].startswith("- ") or not lines[2].startswith("+ "):
            sys.exit(f"equivalent.txt: expected a file, '- line', '+ line' and a reason, got\n{entry}")
        found[lines[0], lines[1][2:].strip(), lines[2][2:].strip()] = " ".join(line.strip() for line in lines[3:])
    return found


class Run:
    def __init__(self, retry):
        WORK.mkdir(parents=True, exist_ok=True)
        self.programs = Programs(ROOT, WORK)
        self.equivalents = explained()
        self.results = WORK / "results.tsv"
        self.known = {}
        if self.results.exists():
            for line in self.results.read_text().splitlines():
                key, status, why = line.split("\t")
                self.known[key] = (status, why)
        if retry:
            self.known = {key: known for key, known in self.known.items() if known[0] != "SURVIVED"}
        self.lock = threading.Lock()

    def judge(self, mutant):
        """(status, why) of a mutant, from what is known or by running it."""
        reason = self.equivalents.get((mutant.file, mutant.old_line, mutant.new_line))
        if reason:
            return "equivalent", reason
        if mutant.key not in self.known:
            verdict = self.try_out(mutant)
            with self.lock:
                self.known[mutant.key] = verdict
                with self.results.open("a") as out:
                    out.write("\t".join((mutant.key, *verdict)) + "\n")
        return self.known[mutant.key]

    def try_out(self, mutant):
        with tempfile.TemporaryDirectory(dir=WORK) as name:
            scratch = pathlib.Path(name)
            include = scratch / "include"
            shutil.copytree(ROOT / "include", include)
            changed = include / "hsm" / mutant.file
            conditional = "\n#if" in mutant.text
            before = self.preprocessed(changed, include) if conditional else ""
            changed.write_text(mutant.text)
            if conditional and before == self.preprocessed(changed, include):
                return "unseen", ""
            for flags in self.programs.forms(mutant.file):
                for source in self.programs.of(mutant.file):
                    said = self.programs.run(source, include, flags, scratch)
                    if said == "stillborn":
                        return "stillborn", ""
                    if said and self.programs.is_sound(source, flags, scratch):
                        own = str(source.relative_to(ROOT / "tests")).removesuffix("_test.cpp")
                        return "killed", f"{own}: {said}"
            folder = mutant.file.partition("/")[0]
            if self.programs.refuses_otherwise(folder, include):
                return "killed", f"{folder}/must_not_compile"
            return "SURVIVED", ""

    @staticmethod
    def preprocessed(header, include):
        """The header's own lines that a compiler sees on this machine."""
        done = subprocess.run(["g++", *FLAGS, f"-I{include}", "-isystem", "/usr/include/eigen3", "-E", "-x", "c++",
                               str(header)], capture_output=True, text=True)
        return done.stdout


def main():
    parser = argparse.ArgumentParser(prog="tests/mutation/run.sh", allow_abbrev=False)
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", action="append", choices=FOLDERS)
    parser.add_argument("--only", metavar="FILE[:LINE]")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--retry", action="store_true")
    parser.add_argument("--list", action="store_true")
    options = parser.parse_args()
    if options.count < 1 or options.jobs < 1:
        parser.error("--count and --jobs take 1 or more")

    run = Run(options.retry)
    wanted, queues = options.count, {}
    folders = options.folder or FOLDERS
    for folder in folders:
        headers = {str(h.relative_to(ROOT / "include/hsm")): h.read_text()
                   for h in (ROOT / "include/hsm" / folder).rglob("*.hpp")}
        queues[folder] = draw(headers, options.seed)
    if options.only:
        file, _, line = options.only.removeprefix("include/hsm/").partition(":")
        chosen = [m for queue in queues.values() for m in queue if m.file == file and line in ("", str(m.line))]
        if not chosen:
            parser.error(f"--only: no mutant in {options.only}")
        queues, folders, wanted = {"only": chosen}, ["only"], len(chosen)
    if options.list:
        for folder in folders:
            for mutant in queues[folder]:
                print(f"{mutant.place:44} {mutant.old} -> {mutant.new or 'nothing'}\n    {mutant.new_line}")
        return 0

    counts, survivors = collections.Counter(), []
    shares = {folder: wanted // len(folders) + (i < wanted % len(folders)) for i, folder in enumerate(folders)}

    def tell(mutant):
        status, why = run.judge(mutant)
        with run.lock:
            counts[status] += 1
            if status == "SURVIVED":
                survivors.append(mutant)
            print(f"{mutant.place:44} {mutant.old} -> {mutant.new or 'nothing':8} {status}{': ' if why else ''}{why}",
                  flush=True)
        return status not in UNCOUNTED

    with ThreadPoolExecutor(options.jobs) as pool:
        # A few of each folder at a time, so that every folder has some when a run is ended.
        while any(shares[f] > 0 and queues[f] for f in folders):
            for folder in folders:
                batch = [queues[folder].pop(0) for _ in range(min(options.jobs, shares[folder], len(queues[folder])))]
                shares[folder] -= sum(pool.map(tell, batch))
    for mutant in survivors:
        print(f"\n{mutant.file}\n- {mutant.old_line}\n+ {mutant.new_line}")
    total = sum(n for status, n in counts.items() if status not in UNCOUNTED)
    print(f"\n{total} mutants: {counts['killed']} killed, {counts['equivalent']} equivalent, "
          f"{counts['SURVIVED']} survived; besides {counts['stillborn']} stillborn, {counts['unseen']} unseen")
    for source, said in run.programs.unsound.items():
        print(f"{source.relative_to(ROOT)} fails as things are: {said}", file=sys.stderr)
    return 1 if survivors or run.programs.unsound else 0


if __name__ == "__main__":
    sys.exit(main())
