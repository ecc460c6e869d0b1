"""C-FIND and QIDO-RS over the catalog (PS3.4 C.2.2.2, PS3.18 8.3.4): one query, one way to SQL.

What is found is what was received and, after it, the results that are listed. Series and instances of the two
are asked for one after the other: each statement has its indexes, and most pages need only the first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from functools import cache
from typing import Any

from sqlalchemy import (
    ColumnElement,
    FromClause,
    Select,
    String,
    UnaryExpression,
    and_,
    false,
    func,
    literal,
    or_,
    select,
    union,
    union_all,
)

from dicomnode.model.query import (
    UNIQUE_KEYS,
    AnyOf,
    Fuzzy,
    Level,
    Match,
    Query,
    Range,
    Single,
    Wildcard,
    fold_name,
)
from dicomnode.store.database import Transaction
from dicomnode.store.listed import Listed, beside_received
from dicomnode.store.schema import instance, result, series, study

_TABLES = {
    Level.PATIENT: (study,),
    Level.STUDY: (study,),
    Level.SERIES: (study, series),
    Level.IMAGE: (study, series, instance),
}
_OF_PATIENT = ("PatientID", "PatientName", "PatientBirthDate", "PatientSex")
_FOLDED = {
    "PatientName": study.c.patient_name_folded,
    "ReferringPhysicianName": study.c.referring_physician_name_folded,
}
_BATCH = 1000


def find(tx: Transaction, query: Query) -> Iterator[dict[str, Any]]:
    """The entities that match, each as keyword → value for the keys that the catalog holds.

    A matching key that the catalog does not hold constrains nothing (PS3.4 C.2.2.1.3). Studies come newest
    first, patients by their id, series and instances as they arrived, and then results as they were made: the
    same order each time.
    """
    received, number = _received(query.level), 0
    for row in _read(tx, query, received, query.offset, query.limit):
        number += 1
        yield row
    left = None if query.limit is None else query.limit - number
    if query.level in (Level.SERIES, Level.IMAGE) and left != 0:
        passed = 0 if number or not query.offset else query.offset - _count(tx, query, received)
        yield from _read(tx, query, _results(query.level), passed, left)


@dataclass(frozen=True, slots=True)
class _Entities:
    """Where the entities of a level are read, and what can be matched and returned, by keyword."""

    columns: Mapping[str, ColumnElement[Any]]
    rows: Select[Any]
    order: tuple[ColumnElement[Any] | UnaryExpression[Any], ...]

    def where(self, query: Query, chosen: Sequence[ColumnElement[Any]]) -> Select[Any]:
        """Of those that match, what is chosen."""
        instants = [pair for pair in query.instants if self.columns.keys() >= {*pair}]
        conditions = [
            condition(keyword, self.columns[keyword], match)
            for keyword, match in query.matches.items()
            if keyword in self.columns and not any(keyword in pair for pair in instants)
        ]
        conditions += [_instants(self.columns, query.matches, *pair) for pair in instants]
        return self.rows.with_only_columns(*chosen, maintain_column_froms=True).where(*conditions)


def _read(
    tx: Transaction, query: Query, entities: _Entities, offset: int, limit: int | None
) -> Iterator[dict[str, Any]]:
    columns = entities.columns
    keywords = dict.fromkeys([*query.return_keys, *unique_keys(query.level)])
    chosen = [keyword for keyword in keywords if keyword in columns]
    rows = tx.execute(
        entities.where(query, [columns[keyword].label(keyword) for keyword in chosen])
        .order_by(*entities.order)
        .offset(offset or None)
        .limit(limit),
        execution_options={"yield_per": _BATCH},
    )
    for row in rows.mappings():
        yield {keyword: row[keyword] for keyword in chosen if row[keyword] is not None}


def _count(tx: Transaction, query: Query, entities: _Entities) -> int:
    return int(tx.execute(entities.where(query, [func.count()])).scalar_one())


def held_keys(level: Level) -> frozenset[str]:
    """The keywords that the catalog can match and return at a level."""
    return frozenset(_columns(level))


def unique_keys(level: Level) -> list[str]:
    """What names one entity of a level, from the study down; a patient is named by its id."""
    if level is Level.PATIENT:
        return [UNIQUE_KEYS[level]]
    return [UNIQUE_KEYS[each] for each in (Level.STUDY, Level.SERIES, Level.IMAGE)[: len(_TABLES[level])]]


@cache
def _columns(level: Level) -> dict[str, ColumnElement[Any]]:
    """What can be matched and returned at a level: its own attributes, and those of the levels above."""
    if level is Level.PATIENT:
        return {**{keyword: study.c[keyword] for keyword in _OF_PATIENT}, **_of_patient()}
    own = {column.name: column for table in _TABLES[level] for column in table.c if column.name[0].isupper()}
    of_series = {"NumberOfSeriesRelatedInstances": series.c.instance_count + beside_received()}
    return {**own, **_of_study(), **({} if level is Level.STUDY else of_series)}


def _columns_of_results(level: Level) -> dict[str, ColumnElement[Any]]:
    """The same of results, whose own attributes have the same names."""
    own = {
        column.name: (study if table is study else result).c[column.name]
        for table in _TABLES[level]
        for column in table.c
        if column.name[0].isupper()
    }
    return {**own, **_of_study(), "NumberOfSeriesRelatedInstances": Listed().of_series}


def _of_study() -> dict[str, ColumnElement[Any]]:
    """Attributes that are computed (PS3.4 C.3.4)."""
    each = series.alias("of_study")
    of_study, more = each.c.study_id == study.c.id, Listed.apart()
    modality = union(
        select(each.c.Modality).where(of_study).correlate(study),
        more.within(study, more.made.c.Modality).correlate(study),
    ).subquery()
    modalities = select(func.aggregate_strings(modality.c.Modality, "\\"))
    series_of_results = more.within(study, func.count(more.made.c.SeriesInstanceUID.distinct()))
    return {
        "NumberOfStudyRelatedSeries": _scalar(select(func.count(each.c.id)).where(of_study))
        + _scalar(series_of_results.where(more.has_own_series())),
        "NumberOfStudyRelatedInstances": _scalar(select(func.sum(each.c.instance_count)).where(of_study))
        + _scalar(more.within(study, func.count(more.made.c.id))),
        "ModalitiesInStudy": modalities.scalar_subquery(),
    }


def _of_patient() -> dict[str, ColumnElement[Any]]:
    other = study.alias("of_patient")
    of_patient = other.c.PatientID == study.c.PatientID
    of_series = select(series).join(other, other.c.id == series.c.study_id).where(of_patient)
    more = Listed.apart()
    series_of_results = more.within(other, func.count(more.made.c.SeriesInstanceUID.distinct()))
    return {
        "NumberOfPatientRelatedStudies": _scalar(select(func.count(other.c.id)).where(of_patient)),
        "NumberOfPatientRelatedSeries": _scalar(of_series.with_only_columns(func.count(series.c.id)))
        + _scalar(series_of_results.where(of_patient, more.has_own_series(other))),
        "NumberOfPatientRelatedInstances": _scalar(
            of_series.with_only_columns(func.sum(series.c.instance_count))
        )
        + _scalar(more.within(other, func.count(more.made.c.id)).where(of_patient)),
    }


def _scalar(query: Select[Any]) -> ColumnElement[Any]:
    return query.correlate(study).scalar_subquery()


@cache
def _received(level: Level) -> _Entities:
    return _Entities(_columns(level), _joined(level), tuple(_order(level)))


@cache
def _results(level: Level) -> _Entities:
    """Results as entities beside those that were received."""
    listed = Listed()
    of_study = result.c.StudyInstanceUID == study.c.StudyInstanceUID
    rows = select(study.c.id).select_from(study.join(listed.rows, of_study)).where(listed.found)
    if level is Level.SERIES:
        rows = rows.where(listed.has_own_series(), listed.begins_series)
    return _Entities(_columns_of_results(level), rows, (result.c.id,))


def _joined(level: Level) -> Select[Any]:
    if level is Level.PATIENT:
        of_patient = select(study.c.id).where(study.c.id == _first_study_of_patient())
        return of_patient.where(study.c.PatientID != "")
    rows: FromClause = study
    if level is not Level.STUDY:
        rows = rows.join(series, series.c.study_id == study.c.id)
    if level is Level.IMAGE:
        rows = rows.join(instance, instance.c.series_id == series.c.id)
    return select(study.c.id).select_from(rows)


def _first_study_of_patient() -> ColumnElement[Any]:
    """What the catalog knows of a patient is what the first study with that PatientID said."""
    other = study.alias("other")
    return _scalar(select(func.min(other.c.id)).where(other.c.PatientID == study.c.PatientID))


def _order(level: Level) -> list[ColumnElement[Any] | UnaryExpression[Any]]:
    match level:
        case Level.PATIENT:
            return [study.c.PatientID]
        case Level.STUDY:
            return [study.c.StudyDate.desc(), study.c.id.desc()]
        case _:
            return [_TABLES[level][-1].c.id]


def condition(keyword: str, column: ColumnElement[Any], match: Match) -> ColumnElement[bool]:
    """How a key constrains its column; case (PS3.4 C.2.2.2.1) and accents of person names say nothing."""
    if _has_nul(match):
        return false()
    if keyword == "ModalitiesInStudy":
        return _has_modality(match)
    if keyword in _FOLDED:
        column, match = _FOLDED[keyword], folded(match)
    if not isinstance(column.type, String):
        return _number_condition(column, match)
    match match:
        case Single(value):
            return column == value
        case AnyOf(values):
            return column.in_(values)
        case Wildcard(pattern):
            return column.like(_like(pattern), escape="\\")
        case Range(first, last):
            bounds = [column != ""]
            bounds += [column >= first] if first is not None else []
            # 120030 lies in a range up to 1200: what is less precise means all of it.
            bounds += [column <= f"{last}Z"] if last is not None else []
            return and_(*bounds)
        case Fuzzy(words):
            name = literal("^").concat(func.replace(func.replace(column, " ", "^"), "=", "^"))
            return and_(*(name.like(_like(f"*^{word}*"), escape="\\") for word in words))


def _has_nul(match: Match) -> bool:
    """No text of the catalog has one, and PostgreSQL refuses to be asked for it."""
    parts = (part if isinstance(part, tuple) else (part or "",) for part in astuple(match))
    return any("\0" in text for texts in parts for text in texts)


def _instants(
    columns: Mapping[str, ColumnElement[Any]], matches: Mapping[str, Match], date: str, time: str
) -> ColumnElement[bool]:
    """A range of dates and one of times as one range (PS3.4 C.2.2.2.5.4)."""
    days, times = matches[date], matches[time]
    if not isinstance(days, Range) or not isinstance(times, Range):
        raise TypeError("instants are pairs of ranges")
    first = None if days.first is None else days.first + (times.first or "")
    last = None if days.last is None else days.last + (times.last or "")
    return and_(columns[date] != "", condition(date, columns[date].concat(columns[time]), Range(first, last)))


def _number_condition(column: ColumnElement[Any], match: Match) -> ColumnElement[bool]:
    """Numbers are equal or not; what is no number equals none."""
    wanted = match.values if isinstance(match, AnyOf) else (match.value,) if isinstance(match, Single) else ()
    numbers = [int(value) for value in wanted if value.isdecimal() and int(value) < 2**31]
    return or_(*(column == number for number in numbers), false())


def _has_modality(match: Match) -> ColumnElement[bool]:
    each = series.alias("with_modality")
    of_study = select(each.c.id).where(
        each.c.study_id == study.c.id, condition("Modality", each.c.Modality, match)
    )
    modality, made = _modalities_of_results()
    # Not two conditions: PostgreSQL would gather all studies that have such a result first.
    either = union_all(
        of_study.correlate(study), made.where(condition("Modality", modality, match))
    ).subquery()
    return select(either.c.id).exists()


@cache
def _modalities_of_results() -> tuple[ColumnElement[Any], Select[Any]]:
    more = Listed.apart()
    return more.made.c.Modality, more.within(study, more.made.c.id).correlate(study)


def folded(match: Match) -> Match:
    """The same for a column of names as they are compared."""
    match match:
        case Single(value):
            return Single(fold_name(value))
        case AnyOf(values):
            return AnyOf(tuple(map(fold_name, values)))
        case Wildcard(pattern):
            return Wildcard(fold_name(pattern))
        case Fuzzy(words):
            return Fuzzy(tuple(map(fold_name, words)))
        case Range():
            return match


def _like(pattern: str) -> str:
    escaped = pattern.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return escaped.replace("*", "%").replace("?", "_")
