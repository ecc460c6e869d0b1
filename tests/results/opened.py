"""The results of `everything`, encoded once a session, and their data sets taken apart."""

from __future__ import annotations

import dataclasses
import io
from functools import cache

import pydicom

from dicomnode.model.profile import PROFILES
from dicomnode.results.encode import encode_results
from tests.imaging.builders import AXIAL, OBLIQUE
from tests.results import everything
from tests.results.everything import EVERY_KIND, WITHOUT_A_PLACE, manifest_of_everything

MANIFEST = manifest_of_everything(*EVERY_KIND)


@cache
def case(name):
    """Findings, headers and manifest."""
    if name == "projection":
        return *everything.projection_case(), manifest_of_everything(*WITHOUT_A_PLACE)
    if name == "projection in pixels":
        return *everything.projection_case(in_mm=False), manifest_of_everything(*WITHOUT_A_PLACE)
    if name == "multi-frame":
        return *everything.multi_frame_case(), MANIFEST
    findings, headers = everything.volume_case(OBLIQUE if name == "oblique" else AXIAL)
    return everything.nothing_found(findings) if name == "nothing" else findings, headers, MANIFEST


CASES = ("volume", "oblique", "multi-frame", "projection", "projection in pixels", "nothing")
FORMS = ("generic", "ohif3")


@cache
def results(name, form, origin):
    findings, headers, manifest = case(name)
    return {
        result.role: result for result in encode_results(findings, headers, manifest, origin, PROFILES[form])
    }


def read(encoded):
    return pydicom.dcmread(io.BytesIO(encoded.data))


def changed(encoded, change):
    ds = read(encoded)
    change(ds)
    buffer = io.BytesIO()
    ds.save_as(buffer)
    return dataclasses.replace(encoded, data=buffer.getvalue())


def named(items, code):
    return [
        item
        for item in items
        if item.get("ConceptNameCodeSequence") and code_of(item.ConceptNameCodeSequence[0]) == code
    ]


def code_of(item):
    return item.get("CodeValue") or item.get("LongCodeValue")


def groups_of(report):
    return named(report.ContentSequence, "126010")[0].ContentSequence


def numbers_of(report):
    """Every number of every group, by what the group tracks."""
    return [
        (
            named(group.ContentSequence, "112039")[0].TextValue,
            code_of(item.ConceptNameCodeSequence[0]),
            float(item.MeasuredValueSequence[0].NumericValue),
        )
        for group in groups_of(report)
        for item in group.ContentSequence
        if item.ValueType == "NUM"
    ]


def evaluations_of(report):
    return {
        (code_of(item.ConceptNameCodeSequence[0]), code_of(item.ConceptCodeSequence[0]))
        for item in named(report.ContentSequence, "C0034375")[0].ContentSequence
        if item.ValueType == "CODE"
    }
