#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The table bench/ranks/table.md from lines of hsm_bench_ranks:   cost.py LINES >table.md

Counts must equal the formulas, or this ends with 1. All else is computed from them, from the measured time of a token in
a layer, and from the links below.
"""
import json
import math
import os
import sys

SCALAR = 4  # bytes
LAYERS = 8  # shifts 1, 2, 4, ... 128
LINKS = [  # name, seconds of a message, bytes a second
    ("25 Gbit/s Ethernet", 20e-6, 3.1e9),
    ("200 Gbit/s InfiniBand", 2e-6, 25e9),
]


def shift_bytes(width, shift, tokens):
    """Of a shift mixer, one way: the state that leaves has the last `shift` tokens of all that lie before."""
    return SCALAR * width * min(shift, tokens)


def ring_bytes(width, rank, ranks, tokens):
    """Of attention: keys and values of all tokens up to this rank's; back, these and the gradients of others' on the way,
    and what is returned to the owners of those that no one further sees, which only the last rank does."""
    block = 2 * SCALAR * width * tokens
    last = rank == ranks - 1
    forward = 0 if last else block * (rank + 1)
    return forward, forward + block * rank


def check(lines):
    """Whether what was counted is what the formulas say."""
    wrong = 0
    for line in lines:
        if line["kind"] != "exchange":
            continue
        rank, ranks, tokens = line["rank"], line["ranks"], line["tokens"]
        last = rank == ranks - 1
        got = [line[key] for key in ("forward_bytes", "backward_bytes", "forward_messages", "backward_messages")]
        if line["layer"] == "ab":
            right = 0 if last else shift_bytes(WIDTH, line["shift"], tokens * (rank + 1))
            left = shift_bytes(WIDTH, line["shift"], tokens * rank)  # 0 of rank 0
            expected = [right, left, int(not last), int(rank > 0)]
        else:
            messages = (0, rank) if last else (rank + 1, 2 * rank + 1)
            expected = [*ring_bytes(WIDTH, rank, ranks, tokens), *messages]
        if got != expected:
            print(f"cost.py: {line} is not what the formula says, {expected}", file=sys.stderr)
            wrong += 1
    if wrong:
        sys.exit(1)


def size(count):
    for unit in ("B", "kB", "MB", "GB", "TB", "PB"):
        if count < 1000 or unit == "PB":
            return f"{count:.3g} {unit}" if count < 1000 else f"{count:.0f} {unit}"
        count /= 1000


def duration(seconds):
    for unit, length in (("years", 31557600), ("days", 86400), ("h", 3600), ("min", 60), ("s", 1), ("ms", 1e-3)):
        if seconds >= length:
            return f"{seconds / length:.3g} {unit}"
    return f"{seconds * 1e6:.3g} us"


def shift_step(ranks, tokens, link):
    """Seconds of all layers of a training step, nothing hidden behind anything, and those that are no computing."""
    _, delay, rate = link
    computing = LAYERS * tokens * TIMES["ab_token"]
    sent = [shift_bytes(WIDTH, 2**l, tokens) for l in range(LAYERS)] if ranks > 1 else []
    return computing, sum(2 * (delay + each / rate) for each in sent)


def ring_step(ranks, tokens, link):
    """The same of attention on the last rank, which sees all; its ring is hidden behind computing where that is longer."""
    _, delay, rate = link
    pairs = tokens * tokens * (ranks - 0.5)
    computing = LAYERS * (tokens * TIMES["attention_token"] + pairs * TIMES["attention_pair"])
    block = 2 * SCALAR * WIDTH * tokens
    each = tokens * tokens * TIMES["attention_pair"]  # a block's, forth and back
    moving = 3 * (delay + block / rate)
    return computing, LAYERS * (moving + (ranks - 2) * max(0, moving - each) if ranks > 1 else 0)


def gradients(ranks, link, step):
    """The sum of gradients, in a ring, nothing of it hidden: of norms, feed-forward networks and what attention projects."""
    _, delay, rate = link
    parameters = LAYERS * (8 * WIDTH * WIDTH + 9 * WIDTH + (4 * WIDTH * WIDTH + 4 * WIDTH if step is ring_step else 0))
    return 0 if ranks == 1 else 2 * (ranks - 1) * (delay + SCALAR * parameters / ranks / rate)


def counted_table(lines):
    print("| ranks | rank | layer | forth | back |\n|---|---|---|---|---|")
    tokens = max(line["tokens"] for line in lines if line["kind"] == "exchange")
    for line in lines:
        if line["kind"] != "exchange" or line["tokens"] != tokens:
            continue
        if line["layer"] == "ab" and line["shift"] not in (1, 128):
            continue
        name = f"(a,b), s = {line['shift']}" if line["layer"] == "ab" else "attention"
        print(f"| {line['ranks']} | {line['rank']} | {name} | {line['forward_bytes']} B in {line['forward_messages']} | "
              f"{line['backward_bytes']} B in {line['backward_messages']} |")
    return tokens


def weak_table(link):
    tokens = 4 * 2**20
    print("| ranks | tokens | (a,b): sent | step | kept | attention: sent | step | kept |\n|---|---|---|---|---|---|---|---|")
    for ranks in (1, 2, 4, 8, 16, 64, 256, 1024, 10000):
        cells = [str(ranks), f"{ranks * tokens:.2g}"]
        for step, sent in (
            # Of two, one sends forth and the other back; of more, those between send both.
            (shift_step, (min(ranks, 3) - 1) * sum(shift_bytes(WIDTH, 2**l, tokens) for l in range(LAYERS)) if ranks > 1 else 0),
            (ring_step, LAYERS * sum(ring_bytes(WIDTH, ranks - 2, ranks, tokens)) if ranks > 1 else 0),
        ):
            alone = sum(step(1, tokens, link))
            time = sum(step(ranks, tokens, link)) + gradients(ranks, link, step)
            cells += [size(sent), duration(time), f"{100 * alone / time:.3g} %"]
        print("| " + " | ".join(cells) + " |")


def strong_table(link):
    total = 10**8
    print("| ranks | tokens of each | (a,b): step | of it exchange | attention: step | of it exchange |\n|---|---|---|---|---|---|")
    for ranks in (1, 10, 100, 1000, 10000):
        tokens = total // ranks
        cells = [str(ranks), f"{tokens:.2g}"]
        for step in (shift_step, ring_step):
            computing, moving = step(ranks, tokens, link)
            moving += gradients(ranks, link, step)
            cells += [duration(computing + moving), f"{100 * moving / (computing + moving):.2g} %"]
        print("| " + " | ".join(cells) + " |")


if len(sys.argv) != 2 or not os.path.isfile(sys.argv[1]):
    sys.exit(f"cost.py: expected a file of lines of hsm_bench_ranks, got {sys.argv[1:]}")
with open(sys.argv[1], encoding="utf-8") as file:
    LINES = [json.loads(line) for line in file if line.startswith("{")]
# mpirun prints the lines of ranks as they come.
LINES.sort(key=lambda line: (line.get("ranks", 0), line.get("layer", ""), line.get("shift", 0), line.get("rank", 0)))
for kind in ("compute", "machine", "exchange"):
    if all(line["kind"] != kind for line in LINES):
        sys.exit(f"cost.py: expected lines of kind compute, machine and exchange, got none of {kind} in {sys.argv[1]}")
TIMES = next(line for line in LINES if line["kind"] == "compute")
WIDTH = TIMES["width"]
check(LINES)
machine = next(line for line in LINES if line["kind"] == "machine")
print("<!-- Written by bench/ranks/run.sh. -->\n")
print(f"Measured on {machine['processor']}, one thread a rank, {machine['compiler']}, `{machine['flags']}`, products by "
      f"{machine['products']}, float, width {WIDTH}, feed-forward {4 * WIDTH}: a token takes "
      f"{duration(TIMES['ab_token'])} in an (a,b) block, forth and back, and {duration(TIMES['attention_token'])} in one of "
      f"attention, a pair of query and key {TIMES['attention_pair'] * 1e9:.3g} ns.\n")
print("## Counted: what a rank sends in one layer\n")
tokens = counted_table(LINES)
print(f"\n{tokens} tokens on each rank; with half as many (a,b) sends the same, and attention half. All counts equal the "
      "formulas.\n")
for link in LINKS:
    print(f"## Computed: {LAYERS} layers over {link[0]}, {duration(link[1])} a message, {link[2] / 1e9:g} GB/s\n")
    print("4 M tokens on each rank; `kept` is the speed of a rank beside that of one alone:\n")
    weak_table(link)
    print("\n10^8 tokens, shared by more and more ranks:\n")
    strong_table(link)
    print()
