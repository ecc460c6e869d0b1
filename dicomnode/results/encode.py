"""Findings in, checked DICOM results out: what the manifest yields, in the form of a profile."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from pydicom.dataset import Dataset

from dicomnode.imaging.findings import Findings
from dicomnode.model.manifest import Manifest, Map
from dicomnode.model.profile import PROFILES, Profile
from dicomnode.model.result import EncodedResult, ResultReference, ResultRole
from dicomnode.results import gate
from dicomnode.results.derived import encode_derived
from dicomnode.results.key_images import encode_key_images
from dicomnode.results.parametric_map import encode_parametric_map
from dicomnode.results.pdf import encode_pdf
from dicomnode.results.picture import draw_findings, encode_picture
from dicomnode.results.presentation import encode_outlines
from dicomnode.results.provenance import Provenance
from dicomnode.results.rtstruct import encode_rtstruct
from dicomnode.results.seg import encode_seg
from dicomnode.results.seg_fractional import encode_fractional
from dicomnode.results.sr import encode_sr

_MB = 1e6


def encode_results(
    findings: Findings,
    headers: Sequence[Dataset],
    manifest: Manifest,
    provenance: Provenance,
    profile: Profile = PROFILES["generic"],
    predecessor: ResultReference | None = None,
    on_result: Callable[[EncodedResult], None] = lambda _: None,
) -> tuple[EncodedResult, ...]:
    """What the manifest yields and the profile takes, each read back and compared; the report last.

    `headers` are the source's, one a plane, in slice order, as `series_geometry` gives them. Profiles that
    are equal give the same bytes, others other UIDs. `predecessor` is the report of the generation before.
    What has nothing to show (no image that matters, no outline) is left out. `on_result` is given each as
    soon as it has been compared. Raises GateFailed.
    """
    gate.check_findings(findings, headers, manifest)
    origin = provenance.in_form(profile).of_patient(headers[0], manifest)
    encoding = _Encoding(findings, headers, manifest, origin, profile)
    wanted = [role for role in manifest.pipeline.outputs if role is not ResultRole.SR]
    results: list[EncodedResult] = []

    def take(made: Iterable[EncodedResult]) -> None:
        for result in made:
            results.append(result)
            on_result(result)

    for role in wanted:
        take(encoding.of_role(role))
    if encoding.replaced and not any(result.role is ResultRole.PICTURE for result in results):
        take(encoding.picture())
    if ResultRole.SR in manifest.pipeline.outputs and ResultRole.SR in profile.takes:
        sr = encode_sr(findings, headers, manifest, origin, profile, results, predecessor)
        gate.check_sr(sr, results, findings, headers, manifest, profile, predecessor)
        take([sr])
    return tuple(results)


@dataclass(slots=True)
class _Encoding:
    """One set of findings on its way into results of one form."""

    findings: Findings
    headers: Sequence[Dataset]
    manifest: Manifest
    provenance: Provenance
    profile: Profile
    replaced: bool = False
    """Whether a picture takes the place of a Segmentation."""

    def of_role(self, role: ResultRole) -> Iterator[EncodedResult]:
        """The results of one role that the profile takes, none where it takes none."""
        by_role: Mapping[ResultRole, Callable[[], Iterator[EncodedResult]]] = {
            ResultRole.SEG: self._segmentations,
            ResultRole.PARAMETRIC_MAP: lambda: self._maps("parametric"),
            ResultRole.DERIVED: lambda: self._maps("derived"),
            ResultRole.KEY_IMAGES: self._key_images,
            ResultRole.OUTLINES: self._outlines,
            ResultRole.PICTURE: self.picture,
            ResultRole.RTSTRUCT: self._rtstruct,
            ResultRole.REPORT: self._pdf,
        }
        if role in self.profile.takes:
            yield from by_role[role]()
        elif role is ResultRole.SEG:
            self.replaced = self.profile.picture_for_seg

    def picture(self) -> Iterator[EncodedResult]:
        """The summary picture."""
        picture = draw_findings(
            self.findings, self.headers[0], self.manifest, research_only=self.provenance.research_only
        )
        encoded = encode_picture(picture, self.headers, self.manifest, self.provenance)
        gate.check_picture(encoded, picture, self.headers[0])
        yield encoded

    def _segmentations(self) -> Iterator[EncodedResult]:
        """The label map's, and one for each map of probabilities; none that is larger than is taken."""
        if self.manifest.segment:
            encoded = encode_seg(self.findings, self.headers, self.manifest, self.provenance, self.profile)
            gate.check_seg(encoded, self.findings, self.headers, self.manifest)
            yield from self._unless_too_large(encoded)
        for encoded in self._maps("fractional"):
            yield from self._unless_too_large(encoded)

    def _unless_too_large(self, encoded: EncodedResult) -> Iterator[EncodedResult]:
        frames, megabytes = gate.frames_of(encoded), len(encoded.data) / _MB
        most_frames, most_megabytes = self.profile.maximum_frames, self.profile.maximum_mb
        if (most_frames and frames > most_frames) or (most_megabytes and megabytes > most_megabytes):
            self.replaced = self.profile.picture_for_seg
        else:
            yield encoded

    def _maps(self, use: str) -> Iterator[EncodedResult]:
        for of in self.manifest.map:
            if of.use == use:
                encoded = self._map(of)
                gate.check_map(encoded, self.findings, of, self.headers, self.manifest)
                yield from encoded

    def _map(self, of: Map) -> tuple[EncodedResult, ...]:
        arguments = (self.findings, of, self.headers, self.manifest, self.provenance)
        if of.use == "derived":
            return encode_derived(*arguments)
        return ((encode_fractional if of.use == "fractional" else encode_parametric_map)(*arguments),)

    def _key_images(self) -> Iterator[EncodedResult]:
        encoded = encode_key_images(self.findings, self.headers, self.manifest, self.provenance)
        if encoded is not None:
            gate.check_key_images(encoded, self.findings, self.headers, self.manifest)
            yield encoded

    def _outlines(self) -> Iterator[EncodedResult]:
        encoded = encode_outlines(self.findings, self.headers, self.manifest, self.provenance)
        if encoded is not None:
            gate.check_outlines(encoded, self.findings, self.headers, self.manifest)
            yield encoded

    def _rtstruct(self) -> Iterator[EncodedResult]:
        encoded = encode_rtstruct(self.findings, self.headers, self.manifest, self.provenance)
        gate.check_rtstruct(encoded, self.findings, self.headers, self.manifest)
        yield encoded

    def _pdf(self) -> Iterator[EncodedResult]:
        encoded = encode_pdf(self.findings, self.headers, self.manifest, self.provenance)
        research_only = self.provenance.research_only
        gate.check_pdf(encoded, self.findings, self.headers, self.manifest, research_only=research_only)
        yield encoded
