# SPDX-License-Identifier: MIT
"""Times the cases of two builds of hsm_bench in turns: run.sh --compare REVISION starts it.

A process of each build stays up, both set a case up, and then they run it by turns, the one that begins changing every
time (before now, now before, ...). A row is the median of the pairs' ratios, time before / time now: below 1 the case
has become slower. A row that is not steady, or whose ratio says that it lost, is measured again with buffers made
afresh, up to twice, all its pairs together; it counts as lost where it stays so."""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import time

SPREAD = 0.1  # of a row that is taken as it is: (80 % - 20 % quantile) / median of its ratios
FEWEST = 7  # pairs of a measurement
MOST = 100


class Build:
    def __init__(self, program, arguments):
        self.process = subprocess.Popen([program, "--serve", *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True)

    def ask(self, line):
        try:
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # hear tells
        return self.hear()

    def hear(self):
        answer = self.process.stdout.readline()
        if not answer:
            sys.exit(f"compare: {self.process.args[0]} ended")
        return answer.rstrip("\n")

    def cases(self):
        names = [self.ask("list")]
        while names[-1]:
            names.append(self.hear())
        return names[:-1]


def quantile(values, q):
    return sorted(values)[round(q * (len(values) - 1))]


def spread_of(ratios):
    return (quantile(ratios, 0.8) - quantile(ratios, 0.2)) / statistics.median(ratios)


def pairs_of(before, now, name, budget):
    """(seconds before, seconds now) of about `budget` seconds of turns; a text where a build has a wrong result."""
    for build, which in ((before, "before"), (now, "now")):
        answer = build.ask("make " + name)
        if answer != "ok":
            return f"{which}: {answer}"
    pairs, start = [], time.monotonic()
    while len(pairs) < FEWEST or (time.monotonic() - start < budget and len(pairs) < MOST):
        if len(pairs) % 2 == 0:
            first = float(before.ask("run"))
            pairs.append((first, float(now.ask("run"))))
        else:
            second = float(now.ask("run"))
            pairs.append((float(before.ask("run")), second))
    for build in (before, now):
        build.ask("drop")
    return pairs


def pattern(text):
    """What --benchmark_filter may be: names that a regular expression finds something in."""
    if text.startswith("-") or text == "all":
        raise argparse.ArgumentTypeError(f"must be a regular expression of names, got {text!r}")
    try:
        return re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"must be a regular expression, got {text!r}: {error}")


def share(text):
    value = float(text)
    if not 0 <= value < 100:
        raise argparse.ArgumentTypeError(f"must be from 0 to below 100, got {text!r}")
    return value


def main():
    parser = argparse.ArgumentParser(prog="compare.py", allow_abbrev=False)
    parser.add_argument("before")
    parser.add_argument("now")
    parser.add_argument("--benchmark_filter", type=pattern, default=re.compile(""))
    parser.add_argument("--json")
    parser.add_argument("--loss", type=share, default=3, metavar="PERCENT")
    options, arguments = parser.parse_known_args()
    for program in (options.before, options.now):
        if not os.access(program, os.X_OK):
            parser.error(f"there is no {program}: was it built with the same products?")
    if options.json and not os.path.isdir(os.path.dirname(os.path.abspath(options.json))):
        parser.error(f"--json must be in a folder that is there, got {options.json!r}")

    before, now = Build(options.before, arguments), Build(options.now, arguments)
    known = set(before.cases())
    all_names = now.cases()
    # What runs beside another yardstick under a second name is the same work.
    plain = {re.sub("/(bare|paired)$", "", name) for name in all_names if not re.search("/(bare|paired)$", name)}
    names = [name for name in all_names
             if name in known and options.benchmark_filter.search(name)
             and (name in plain or re.sub("/(bare|paired)$", "", name) not in plain)]
    least = 1 - options.loss / 100
    print(f"{'case':54} {'ms before':>10} {'ms now':>10} {'before/now':>10} {'spread':>7} {'pairs':>5}")
    rows, lost, unsteady, wrong = [], 0, 0, 0
    for name in names:
        pairs = []
        for attempt in range(3):
            more = pairs_of(before, now, name, budget=1 + attempt)
            if isinstance(more, str):
                break
            pairs += more
            ratios = [a / b for a, b in pairs]
            ratio, spread = statistics.median(ratios), spread_of(ratios)
            if ratio >= least and spread <= SPREAD:
                break
        if isinstance(more, str):
            print(f"{name:54} WRONG {more}", flush=True)
            wrong += 1
            continue
        marks = [mark for mark, holds in (("LOST", ratio < least), ("UNSTEADY", spread > SPREAD)) if holds]
        lost += ratio < least
        unsteady += spread > SPREAD
        times = [statistics.median(side) for side in zip(*pairs)]
        rows.append({"name": name, "before": times[0], "now": times[1], "ratio": ratio, "spread": spread,
                     "pairs": len(pairs)})
        print(f"{name:54} {times[0] * 1e3:10.4g} {times[1] * 1e3:10.4g} {ratio:10.3f} {spread:7.0%} {len(pairs):5} "
              f"{' '.join(marks)}", flush=True)
    if options.json and rows:
        with open(options.json, "w", encoding="utf-8") as out:
            json.dump(rows, out, indent=1)
    if rows:
        print(f"\n{len(rows)} cases, before/now {statistics.geometric_mean(r['ratio'] for r in rows):.3f} in the mean; "
              f"{lost} lost more than {options.loss:g} %, {unsteady} unsteady, {wrong} wrong")
    else:
        print("compare: no case of this name", file=sys.stderr)
    return 0 if rows and not lost and not wrong else 1


if __name__ == "__main__":
    sys.exit(main())
