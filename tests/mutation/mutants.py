# SPDX-License-Identifier: MIT
"""Which mutants a header has: one operator, bound, sign or constant of its code changed in each."""

import hashlib
import random
import re
from dataclasses import dataclass

# An operator counts where it stands between blanks, as the formatter leaves it: `a < b`, never `span<T>` or `T&& x`.
SWAPS = {
    "+": ["-"], "-": ["+"], "*": ["/"], "/": ["*"], "%": ["/"],
    "<": ["<=", ">"], "<=": ["<"], ">": [">=", "<"], ">=": [">"],
    "==": ["!="], "!=": ["=="], "&&": ["||"], "||": ["&&"],
    "+=": ["-="], "-=": ["+="], "*=": ["/="], "/=": ["*="],
}
OPERATOR = re.compile(r"(?<=\s)(" + "|".join(re.escape(o) for o in sorted(SWAPS, key=len, reverse=True)) + r")(?=\s)")
STEP = re.compile(r"\+\+|--")
WORD = re.compile(r"\b(?:std::min|std::max|true|false)\b")
SIGN = re.compile(r"(?:(?<=[(\[{])|(?<=[=,?:<>+*/&|] )|(?<=return ))(-|!)(?=[\w(])")
NUMBER = re.compile(r"(?<![\w.'])(?:0x[0-9a-fA-F'.]+(?:p[+-]?\d+)?|\d[\d']*(?:\.\d*)?(?:e[+-]?\d+)?)([FfLlUu]*)(?![\w.])")
WORDS = {"std::min": "std::max", "std::max": "std::min", "true": "false", "false": "true"}

# What is no code that a test could see: comments, texts, directives, assertions of the compiler, attributes,
# alignment and constraints. Each becomes blanks of the same length.
NOT_CODE = re.compile(
    r"""//[^\n]* | /\*.*?\*/ | "(?:\\.|[^"\\\n])*" | (?<![\w])'(?:\\.|[^'\\\n])'
    | ^[ \t]*\#(?:[^\n]*\\\n)*[^\n]* | \bstatic_assert\b[^;]*; | \[\[.*?\]\] | \balignas\([^()]*(?:\([^()]*\))*[^()]*\)
    | \bconcept\b[^;]*; | \brequires\b[^{};]* | \boperator\s*\S+""",
    re.VERBOSE | re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Mutant:
    file: str  # below include/hsm
    line: int
    column: int
    old: str
    new: str
    old_line: str
    new_line: str
    text: str  # the header with the change

    @property
    def place(self):
        return f"{self.file}:{self.line}:{self.column}"

    @property
    def key(self):
        """Names the mutant of this state of the header."""
        return self.place + ":" + hashlib.sha256(self.text.encode()).hexdigest()[:12]


def code_of(text):
    return NOT_CODE.sub(lambda found: re.sub(r"[^\n]", " ", found.group()), text)


def number_changes(literal, suffix):
    if re.search(r"[.pe]", literal) and not (literal.startswith("0x") and "." not in literal and "p" not in literal):
        return [f"(1.01{suffix} * {literal})"]
    value = int(literal[:len(literal) - len(suffix)].replace("'", ""), 0)
    return [f"{value + 1}{suffix}"] + ([f"{value - 1}{suffix}"] if value > 0 else [])


def changes(code):
    """(start, end, new text) of every change."""
    for found in OPERATOR.finditer(code):
        for new in SWAPS[found.group()]:
            yield found.start(), found.end(), new
    for found in STEP.finditer(code):
        yield found.start(), found.end(), "--" if found.group() == "++" else "++"
    for found in WORD.finditer(code):
        yield found.start(), found.end(), WORDS[found.group()]
    for found in SIGN.finditer(code):
        yield found.start(1), found.end(1), ""
    for found in NUMBER.finditer(code):
        for new in number_changes(found.group(), found.group(1)):
            yield found.start(), found.end(), new


def mutants_of(file, text):
    all_of_file = []
    for start, end, new in sorted(set(changes(code_of(text)))):
        first = text.rfind("\n", 0, start) + 1
        last = text.find("\n", end)
        all_of_file.append(Mutant(
            file, text.count("\n", 0, start) + 1, start - first + 1, text[start:end], new, text[first:last].strip(),
            (text[first:start] + new + text[end:last]).strip(), text[:start] + new + text[end:]))
    return all_of_file


def draw(headers, seed):
    """The mutants of some headers, {file: text}, in the order in which they are tried: one of each header in turn. A
    header's own order depends on the seed and its name alone."""
    queues = []
    for file in sorted(headers):
        of_file = mutants_of(file, headers[file])
        random.Random(f"{seed} {file}").shuffle(of_file)
        queues.append(of_file)
    random.Random(seed).shuffle(queues)
    order = []
    while any(queues):
        for queue in queues:
            if queue:
                order.append(queue.pop())
    return order
