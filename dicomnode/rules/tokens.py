"""Just enough of CEL's grammar to show an administrator the parts of a rule; CEL itself is a library."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

_TOKEN = re.compile(
    r'''
    (?P<space>\s+|//[^\n]*)
  | (?P<string>
        [bB]?[rR](?:"""[\s\S]*?"""|\'\'\'[\s\S]*?\'\'\'|"[^"\n]*"|'[^'\n]*')
      | [bB]?(?:"""(?:\\[\s\S]|[^\\])*?"""|\'\'\'(?:\\[\s\S]|[^\\])*?\'\'\'
               |"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'))
  | (?P<number>\d(?:[\w.]*))
  | (?P<name>[A-Za-z_]\w*)
  | (?P<mark>&&|\|\||[\s\S])
    ''',
    re.VERBOSE,
)
_KEYWORDS = frozenset({"true", "false", "null", "in"})
MACROS = frozenset({"all", "exists", "exists_one", "map", "filter"})
"""The macros that bind a name of their own and loop."""


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of a rule; `start` and `end` are offsets in its source."""

    kind: str
    text: str
    start: int
    end: int


def tokens(source: str) -> list[Token]:
    """The tokens of `source` without white space and comments; every other character is in one of them."""
    return [
        Token(match.lastgroup or "mark", match.group(), *match.span())
        for match in _TOKEN.finditer(source)
        if match.lastgroup != "space"
    ]


def split(source: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The operands of the outermost && and ||, and the operators between them.

    A rule that is a choice (`a ? b : c`) is one operand, for its && and || bind to its parts.
    """
    depth, cuts = 0, list[Token]()
    for token in tokens(source):
        if token.kind != "mark":
            continue
        depth += (token.text in "([{") - (token.text in ")]}")
        if depth == 0 and token.text == "?":
            return (source.strip(),), ()
        if depth == 0 and token.text in ("&&", "||"):
            cuts.append(token)
    edges = [0, *(edge for cut in cuts for edge in (cut.start, cut.end)), len(source)]
    operands = tuple(source[start:end].strip() for start, end in list(pairwise(edges))[::2])
    return operands, tuple(cut.text for cut in cuts)


def fact_names(source: str) -> tuple[tuple[str, ...], ...]:
    """The paths that a rule reads, in order: `series.modality`, `all["mean"]` as tuples of their parts."""
    found = tokens(source)
    bound = {of.text for at, of in _calls(found) if of.kind == "name" and found[at].text in MACROS}
    paths = {
        _path(found, at): None
        for at, token in enumerate(found)
        if token.kind == "name"
        and token.text not in _KEYWORDS | bound
        and not (at and found[at - 1].text == ".")
        and not _is(found, at + 1, "(")
    }
    return tuple(paths)


def loops(source: str) -> int:
    """How many macros loop over a list in `source`."""
    found = tokens(source)
    return sum(found[at].text in MACROS and at > 0 and found[at - 1].text == "." for at, _ in _calls(found))


def patterns(source: str) -> Iterator[Token]:
    """The literal regular expressions that `matches` is called with."""
    found = tokens(source)
    return (
        argument
        for at, argument in _calls(found)
        if found[at].text == "matches" and argument.kind == "string"
    )


def _calls(found: list[Token]) -> Iterator[tuple[int, Token]]:
    """Where a name is called, and the first token of its arguments."""
    for at, token in enumerate(found[:-2]):
        if token.kind == "name" and _is(found, at + 1, "("):
            yield at, found[at + 2]


def _path(found: list[Token], at: int) -> tuple[str, ...]:
    parts = [found[at].text]
    at += 1
    while True:
        if _is(found, at, ".") and at + 1 < len(found) and found[at + 1].kind == "name":
            if _is(found, at + 2, "("):
                break
            parts.append(found[at + 1].text)
            at += 2
        elif _is(found, at, "[") and _is(found, at + 2, "]") and found[at + 1].kind == "string":
            parts.append(str(ast.literal_eval(found[at + 1].text)))
            at += 3
        else:
            break
    return tuple(parts)


def _is(found: list[Token], at: int, text: str) -> bool:
    return at < len(found) and found[at].text == text
