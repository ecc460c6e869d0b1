"""C-FIND over the catalog (PS3.4 C.2.2.2)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import ColumnElement, Select, String, and_, func, select

from dicomnode.model.query import UNIQUE_KEYS, AnyOf, Level, Match, Query, Range, Single, Wildcard
from dicomnode.store.database import Transaction
from dicomnode.store.schema import instance, series, study

_TABLES = {
    Level.STUDY: (study,),
    Level.SERIES: (study, series),
    Level.IMAGE: (study, series, instance),
}
_BATCH = 1000


def find(tx: Transaction, query: Query) -> Iterator[dict[str, Any]]:
    """The entities that match, each as keyword → value for the keys that the catalog holds.

    A matching key that the catalog does not hold constrains nothing (PS3.4 C.2.2.1.3).
    """
    columns = _columns(query.level)
    tables = _TABLES[query.level]
    unique = [UNIQUE_KEYS[level] for level in (Level.STUDY, Level.SERIES, Level.IMAGE)[: len(tables)]]
    chosen = [key for key in dict.fromkeys([*query.return_keys, *unique]) if key in columns]
    conditions = [
        _condition(keyword, columns[keyword], match)
        for keyword, match in query.matches.items()
        if keyword in columns and isinstance(columns[keyword].type, String)
    ]
    rows = tx.execute(
        _joined(query.level, [columns[keyword].label(keyword) for keyword in chosen])
        .where(*conditions)
        .order_by(tables[-1].c.id),
        execution_options={"yield_per": _BATCH},
    )
    for row in rows.mappings():
        yield {keyword: row[keyword] for keyword in chosen if row[keyword] is not None}


def _columns(level: Level) -> dict[str, ColumnElement[Any]]:
    """What can be matched and returned at a level: its own attributes, and those of the levels above."""
    own = {column.name: column for table in _TABLES[level] for column in table.c if column.name[0].isupper()}
    return {**own, **_counted(level)}


def _counted(level: Level) -> dict[str, ColumnElement[Any]]:
    """Attributes that are computed (PS3.4 C.3.4)."""
    if level is not Level.STUDY:
        return {"NumberOfSeriesRelatedInstances": series.c.instance_count}
    of_study = series.c.study_id == study.c.id
    modality = select(series.c.Modality).where(of_study).distinct().correlate(study).subquery()
    modalities = select(func.aggregate_strings(modality.c.Modality, "\\"))
    return {
        "NumberOfStudyRelatedSeries": select(func.count(series.c.id)).where(of_study).scalar_subquery(),
        "NumberOfStudyRelatedInstances": select(func.sum(series.c.instance_count))
        .where(of_study)
        .scalar_subquery(),
        "ModalitiesInStudy": modalities.scalar_subquery(),
    }


def _joined(level: Level, columns: list[ColumnElement[Any]]) -> Select[Any]:
    query = select(*columns).select_from(study)
    if level is not Level.STUDY:
        query = query.join(series, series.c.study_id == study.c.id)
    if level is Level.IMAGE:
        query = query.join(instance, instance.c.series_id == series.c.id)
    return query


def _condition(keyword: str, column: ColumnElement[Any], match: Match) -> ColumnElement[bool]:
    """Person names match whatever their case (PS3.4 C.2.2.2.1)."""
    if keyword == "ModalitiesInStudy":
        return _has_modality(match)
    if keyword.endswith("Name"):
        column = func.lower(column)
        match = _lowered(match)
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
            bounds += [column <= last] if last is not None else []
            return and_(*bounds)


def _has_modality(match: Match) -> ColumnElement[bool]:
    of_study = select(series.c.id).where(
        series.c.study_id == study.c.id, _condition("Modality", series.c.Modality, match)
    )
    return of_study.exists()


def _lowered(match: Match) -> Match:
    match match:
        case Single(value):
            return Single(value.lower())
        case AnyOf(values):
            return AnyOf(tuple(value.lower() for value in values))
        case Wildcard(pattern):
            return Wildcard(pattern.lower())
        case Range():
            return match


def _like(pattern: str) -> str:
    escaped = pattern.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return escaped.replace("*", "%").replace("?", "_")
