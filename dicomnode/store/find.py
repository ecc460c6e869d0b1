"""C-FIND and QIDO-RS over the catalog (PS3.4 C.2.2.2, PS3.18 8.3.4): one query, one way to SQL."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import astuple
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Select,
    String,
    UnaryExpression,
    and_,
    false,
    func,
    literal,
    or_,
    select,
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
from dicomnode.store.schema import instance, series, study

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
    first, patients by their id, series and instances as they arrived: the same order each time.
    """
    columns = _columns(query.level)
    unique = unique_keys(query.level)
    chosen = [key for key in dict.fromkeys([*query.return_keys, *unique]) if key in columns]
    instants = [pair for pair in query.instants if columns.keys() >= {*pair}]
    conditions = [
        condition(keyword, columns[keyword], match)
        for keyword, match in query.matches.items()
        if keyword in columns and not any(keyword in pair for pair in instants)
    ]
    conditions += [_instants(columns, query.matches, *pair) for pair in instants]
    rows = tx.execute(
        _joined(query.level, [columns[keyword].label(keyword) for keyword in chosen])
        .where(*conditions)
        .order_by(*_order(query.level))
        .offset(query.offset or None)
        .limit(query.limit),
        execution_options={"yield_per": _BATCH},
    )
    for row in rows.mappings():
        yield {keyword: row[keyword] for keyword in chosen if row[keyword] is not None}


def held_keys(level: Level) -> frozenset[str]:
    """The keywords that the catalog can match and return at a level."""
    return frozenset(_columns(level))


def unique_keys(level: Level) -> list[str]:
    """What names one entity of a level, from the study down; a patient is named by its id."""
    if level is Level.PATIENT:
        return [UNIQUE_KEYS[level]]
    return [UNIQUE_KEYS[each] for each in (Level.STUDY, Level.SERIES, Level.IMAGE)[: len(_TABLES[level])]]


def _columns(level: Level) -> dict[str, ColumnElement[Any]]:
    """What can be matched and returned at a level: its own attributes, and those of the levels above."""
    if level is Level.PATIENT:
        return {**{keyword: study.c[keyword] for keyword in _OF_PATIENT}, **_of_patient()}
    own = {column.name: column for table in _TABLES[level] for column in table.c if column.name[0].isupper()}
    return {**own, **_of_study(), **({} if level is Level.STUDY else _of_series())}


def _of_series() -> dict[str, ColumnElement[Any]]:
    return {"NumberOfSeriesRelatedInstances": series.c.instance_count}


def _of_study() -> dict[str, ColumnElement[Any]]:
    """Attributes that are computed (PS3.4 C.3.4)."""
    each = series.alias("of_study")
    of_study = each.c.study_id == study.c.id
    modality = select(each.c.Modality).where(of_study).distinct().correlate(study).subquery()
    modalities = select(func.aggregate_strings(modality.c.Modality, "\\"))
    return {
        "NumberOfStudyRelatedSeries": _scalar(select(func.count(each.c.id)).where(of_study)),
        "NumberOfStudyRelatedInstances": _scalar(select(func.sum(each.c.instance_count)).where(of_study)),
        "ModalitiesInStudy": modalities.scalar_subquery(),
    }


def _of_patient() -> dict[str, ColumnElement[Any]]:
    other = study.alias("of_patient")
    of_patient = other.c.PatientID == study.c.PatientID
    of_series = select(series).join(other, other.c.id == series.c.study_id).where(of_patient)
    return {
        "NumberOfPatientRelatedStudies": _scalar(select(func.count(other.c.id)).where(of_patient)),
        "NumberOfPatientRelatedSeries": _scalar(of_series.with_only_columns(func.count(series.c.id))),
        "NumberOfPatientRelatedInstances": _scalar(
            of_series.with_only_columns(func.sum(series.c.instance_count))
        ),
    }


def _scalar(query: Select[Any]) -> ColumnElement[Any]:
    return query.correlate(study).scalar_subquery()


def _joined(level: Level, columns: list[ColumnElement[Any]]) -> Select[Any]:
    query = select(*columns).select_from(study)
    if level is Level.PATIENT:
        return query.where(study.c.id == _first_study_of_patient(), study.c.PatientID != "")
    if level is not Level.STUDY:
        query = query.join(series, series.c.study_id == study.c.id)
    if level is Level.IMAGE:
        query = query.join(instance, instance.c.series_id == series.c.id)
    return query


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
    return of_study.correlate(study).exists()


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
