"""One rule in CEL: whether it holds for a set of facts, and what decided it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import cel

from dicomnode.errors import RuleError
from dicomnode.imaging.facts import SERIES_FACTS, VOLUME_FACTS
from dicomnode.imaging.stacks import STACK_FACTS
from dicomnode.model.prior import PRIOR_FACTS
from dicomnode.rules.tokens import fact_names, loops, patterns, split

Facts = Mapping[str, Mapping[str, object]]

LONGEST = 4000
"""Characters of a rule; the time to compile one grows with its length."""
MOST_LOOPS = 2
"""Macros that loop; nested ones multiply, and a rule must not hold a worker up."""

_FUNCTIONS = frozenset(
    {"bytes", "contains", "double", "duration", "endsWith", "int", "matches", "size", "startsWith", "string"}
    | {"timestamp", "uint"}
)
_PLACE = re.compile(r"<input>:(\d+):(\d+): (.*)")
_NO_OVERLOAD = "Undefined variable or function"
"""What CEL says of a function that there is, and not for a value of that type."""
_MIX_UP, _NO_CONDITION = "the types do not go together", "is no condition"
_IN_HEADER = ("series", "stack", "study")

PIPELINE_FACTS: Facts = {
    "series": SERIES_FACTS,
    "stack": STACK_FACTS,
    "prior": PRIOR_FACTS,
    "volume": VOLUME_FACTS,
    "segments": {},
    "all": dict.fromkeys(("volume_ml", "mean", "sd", "largest_component"), 1.0),
    "values": {},
}
"""What the conditions of a pipeline can ask about, by value of its type; no names under a root means any."""


@dataclass(frozen=True, slots=True)
class ConditionVerdict:
    """One operand of a rule's outermost && and ||: `outcome` is None where it could not be decided.

    `values` are the facts that it names and that there are; `note` says why it was not decided.
    """

    source: str
    outcome: bool | None
    values: Mapping[str, object] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a rule matched; `note` says why it could not be decided, which counts as not matched."""

    matched: bool
    conditions: tuple[ConditionVerdict, ...]
    note: str = ""


class Rule:
    """A compiled rule. Raises RuleError where it does not compile, names what there is not, or mixes types.

    `known` gives a value of its type for each fact (`{"series": {"modality": "", …}}`); None checks neither.
    """

    def __init__(self, source: str, known: Facts | None = None) -> None:
        self.source = source
        _require_small(source)
        self._program = _compile(source)
        self.names = frozenset(".".join(path) for path in fact_names(source))
        _require_known(source, self._program, known)
        self._conditions = tuple(
            (operand, _compile(operand), fact_names(operand)) for operand in split(source)[0]
        )
        if known is not None:
            _require_types(source, self.holds(known))

    def matches(self, facts: Facts) -> bool:
        """Whether the rule is true of `facts`; a fact that is absent or of another type makes it false."""
        return _evaluate(self._program, facts) is True

    def holds(self, facts: Facts) -> Verdict:
        """As `matches`, with each condition and the values that decided it."""
        conditions = tuple(_judge(*condition, facts) for condition in self._conditions)
        outcome = _evaluate(self._program, facts)
        if isinstance(outcome, bool):
            return Verdict(outcome, conditions)
        note = next((condition.note for condition in conditions if condition.note), "cannot be decided")
        return Verdict(False, conditions, note)


def check_rule(source: str) -> None:
    """Raises RuleError unless `source` is a condition that a pipeline may set."""
    Rule(source, PIPELINE_FACTS)


def _require_small(source: str) -> None:
    if len(source) > LONGEST:
        raise _error(source, f"is longer than {LONGEST} characters")
    if (count := loops(source)) > MOST_LOOPS:
        raise _error(
            source, f"loops {count} times (all, exists, map, filter); at most {MOST_LOOPS} are allowed"
        )


def _compile(source: str) -> cel.Program:
    try:
        return cel.compile(source)
    except (ValueError, RuntimeError) as error:
        place = _PLACE.search(str(error))
        if place is None:
            raise _error(source, "is no CEL expression") from None
        line, column, problem = place.groups()
        raise _error(source, f"line {line}, column {column}: {problem}") from None


def _require_known(source: str, program: cel.Program, known: Facts | None) -> None:
    # Operators are functions too; their names are no identifiers.
    for function in (name for name in program.functions() if name.isidentifier() and name[0] != "_"):
        if function not in _FUNCTIONS:
            raise _error(source, f"there is no function {function}{_nearest(function, _FUNCTIONS)}")
    for pattern in patterns(source):
        try:
            cel.compile(f'"".matches({pattern.text})').execute({})
        except (RuntimeError, ValueError):
            raise _error(source, f"column {pattern.start + 1}: not a regular expression") from None
    if known is None:
        return
    for root, *rest in fact_names(source):
        if root not in known:
            raise _error(source, f"column {_column(source, root)}: there is no {root}{_nearest(root, known)}")
        if rest and known[root] and rest[0] not in known[root]:
            near = _nearest(f"{root}.{rest[0]}", [f"{root}.{name}" for name in known[root]])
            raise _error(source, f"column {_column(source, root)}: there is no {root}.{rest[0]}{near}")


def _require_types(source: str, verdict: Verdict) -> None:
    """A rule that can never be decided would never match, and nobody would know."""
    for condition in verdict.conditions:
        if condition.note.startswith((_MIX_UP, _NO_CONDITION)):
            raise _error(source, condition.note)
    if not verdict.conditions and verdict.note.startswith(_NO_CONDITION):
        raise _error(source, verdict.note)


def _error(source: str, problem: str) -> RuleError:
    shown = source if len(source) <= 200 else f"{source[:200]}…"
    return RuleError("rule", [f"{problem} (in: {shown})"])


def _column(source: str, name: str) -> int:
    match = re.search(rf"\b{re.escape(name)}\b", source)
    return match.start() + 1 if match else 1


def _nearest(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.5)
    return f"; did you mean {close[0]}?" if close else ""


def _evaluate(program: cel.Program, facts: Facts) -> object:
    """The value, or what CEL raised: a KeyError for an absent fact, a TypeError for a mix-up."""
    try:
        return program.execute(dict(facts))
    except (LookupError, TypeError, ValueError, ArithmeticError, RuntimeError) as error:
        return error


def _judge(
    source: str, program: cel.Program, paths: tuple[tuple[str, ...], ...], facts: Facts
) -> ConditionVerdict:
    values, absent = dict[str, object](), list[str]()
    for path in paths:
        present, value = _look_up(path, facts)
        if present:
            values[".".join(path)] = value
        else:
            absent.append(".".join(path))
    outcome = _evaluate(program, facts)
    if isinstance(outcome, bool):
        return ConditionVerdict(source, outcome, values)
    return ConditionVerdict(source, None, values, _note(outcome, values, absent))


def _look_up(path: tuple[str, ...], facts: Facts) -> tuple[bool, object]:
    current: object = facts
    for part in path:
        if not isinstance(current, Mapping) or part not in current:
            return False, None
        current = current[part]
    return True, current


def _note(outcome: object, values: Mapping[str, object], absent: list[str]) -> str:
    if absent:
        place = "in the header" if absent[0].split(".")[0] in _IN_HEADER else "known"
        return f"{absent[0]} is not {place}"
    if isinstance(outcome, TypeError) or _NO_OVERLOAD in str(outcome):
        kinds = ", ".join(f"{name} is {_kind(value)}" for name, value in values.items())
        return f"{_MIX_UP}: {kinds}" if kinds else _MIX_UP
    if isinstance(outcome, Exception):
        return "cannot be evaluated"
    return f"{_NO_CONDITION}: it gives {_kind(outcome)}"


def _kind(value: object) -> str:
    names = {bool: "a truth value", str: "text", int: "a whole number", float: "a number", list: "a list"}
    return names.get(type(value), type(value).__name__)
