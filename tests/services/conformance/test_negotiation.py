"""Each line of the conformance statement holds on the wire, and what it does not say is refused."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice

import pytest
from pydicom import Dataset, dcmread
from pydicom._uid_dict import UID_dictionary
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage
from pynetdicom import AE, build_context, build_role, evt
from pynetdicom.association import Association
from pynetdicom.pdu_primitives import SOPClassExtendedNegotiation

from dicomnode import node as composition
from dicomnode.config import Config
from dicomnode.dimse.commitment import PUSH_MODEL, PUSH_MODEL_INSTANCE
from dicomnode.dimse.fetch import move
from dicomnode.dimse.names import EVERY_TRANSFER_SYNTAX
from dicomnode.dimse.status import PROCESSING_FAILURE
from dicomnode.errors import ContextRefused
from dicomnode.model.peer import Peer
from dicomnode.services.conformance.offered import OPTIONS, SCU
from dicomnode.services.evidence_source import archive_by_dimse
from dicomnode.services.prior_source import SOP_CLASSES
from tests.harness.heads import small_series, write_series
from tests.harness.nodes import RunningNode, send_files, wait_for
from tests.services.conformance.stated import Proposed, Stated, contexts_of

NATIVE = ("1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.2")
CONTEXTS = 128
LIMIT_S = 150.0


def ask(node: RunningNode, contexts: list, items: Iterable[object] = ()) -> Association:
    ae = AE("PEER")
    ae.acse_timeout = ae.network_timeout = ae.dimse_timeout = 30
    return ae.associate(
        "127.0.0.1", node.port, contexts=contexts, ae_title=node.ae_title, ext_neg=list(items)
    )


def batches(pairs: Iterable[tuple[str, str]]) -> Iterator[list[tuple[str, str]]]:
    waiting = iter(pairs)
    while batch := list(islice(waiting, CONTEXTS)):
        yield batch


def accepted(node: RunningNode, pairs: Iterable[tuple[str, str]]) -> set[tuple[str, str]]:
    """Which of the pairs of SOP class and transfer syntax the node takes, each in a context of its own."""

    def negotiate(batch: list[tuple[str, str]]) -> set[tuple[str, str]]:
        assoc = ask(node, [build_context(*pair) for pair in batch])
        assert len(assoc.accepted_contexts) + len(assoc.rejected_contexts) == len(batch)
        if assoc.is_established:
            assoc.release()
        return {(str(cx.abstract_syntax), str(cx.transfer_syntax[0])) for cx in assoc.accepted_contexts}

    with ThreadPoolExecutor(8) as pool:
        return set().union(*pool.map(negotiate, batches(pairs)))


def test_every_context_that_is_stated_is_accepted(running):
    pairs = running.stated.accepted_pairs()
    assert len(pairs) > 10_000
    assert accepted(running.node, pairs) == set(pairs)


def test_no_other_context_is_accepted(running):
    stated = set(running.stated.accepted_pairs())
    classes = {uid for uid, _ in stated}
    others = [
        uid for uid, (_, kind, *_) in UID_dictionary.items() if "SOP Class" in kind and uid not in classes
    ]
    pairs = [(uid, syntax) for uid in classes for syntax in EVERY_TRANSFER_SYNTAX]
    pairs += [(uid, syntax) for uid in (*others, "1.2.3.4") for syntax in NATIVE]
    unstated = sorted(set(pairs) - stated)
    assert len(unstated) > 1000
    assert accepted(running.node, unstated) == set()


def test_every_role_that_is_stated_is_granted_and_no_other(running):
    roles = {str(row["UID"]): SCU in row["Role"] for row in running.stated.accepted()}
    granted = {}
    for batch in batches(roles.items()):
        contexts = [build_context(uid, ExplicitVRLittleEndian) for uid, _ in batch]
        items = [build_role(uid, scu_role=True, scp_role=True) for uid, _ in batch]
        assoc = ask(running.node, contexts, items)
        granted |= {str(cx.abstract_syntax): cx.as_scp for cx in assoc.accepted_contexts}
        assoc.release()
    assert granted == roles
    assert {True, False} == set(roles.values())


def test_every_option_that_is_stated_is_agreed_on_and_no_other(running):
    stated = {str(row["UID"]): row["Extended negotiation"] for row in running.stated.accepted()}
    stated = {
        uid: [*names] for uid, names in stated.items() if not uid.startswith("1.2.840.10008.5.1.4.1.1.")
    }
    items = []
    for uid in stated:
        item = SOPClassExtendedNegotiation()
        item.sop_class_uid, item.service_class_application_information = uid, b"\1" * len(OPTIONS)
        items.append(item)
    assoc = ask(running.node, [build_context(uid, ExplicitVRLittleEndian) for uid in stated], items)
    agreed = assoc.acceptor.sop_class_extended
    assoc.release()
    assert {
        uid: [name for name, value in zip(OPTIONS, agreed.get(uid, b""), strict=False) if value] or ["none"]
        for uid in stated
    } == stated


def test_what_the_node_proposes_is_what_is_stated(running, tmp_path):
    """Results, a notice, a withdrawal, questions, commitment both ways: none left out, and none added."""
    node, observer = running.node, running.observer
    wait_for("the first results", lambda: observer.stored("SEG", at_least=2), LIMIT_S)
    send_files(node.peer, [running.late])
    send_files(node.peer, write_series(tmp_path / "ct", small_series(2, Modality="CT")))
    _ask_for_commitment(node, dcmread(running.series[0]))
    stated = running.stated.proposed()
    running.node.run("workitems", "show", "PEER", "1.2.3")
    wait_for("all that is stated", lambda: observer.proposed("ARCHIVE", "VAULT", "PEER") >= stated, LIMIT_S)
    assert observer.proposed("ARCHIVE", "VAULT", "PEER") == stated


def test_a_c_move_proposes_what_is_stated(running):
    ds = dcmread(running.series[0])
    identifier = Dataset()
    identifier.QueryRetrieveLevel = "IMAGE"
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
        setattr(identifier, keyword, ds[keyword].value)
    assert move(running.node.peer, "PEER", identifier, "VIEWER").completed == 1
    syntaxes = running.stated.offered_beside(str(ds.file_meta.TransferSyntaxUID))
    stated = {Proposed(str(ds.SOPClassUID), (syntax,), "SCU") for syntax in syntaxes}
    assert running.observer.proposed("VIEWER") == stated


def test_comparing_a_series_with_an_archive_proposes_what_is_stated(running, tmp_path):
    """Of an archive that takes part in nothing but C-FIND."""
    archive = Peer("ASKED", "127.0.0.1", running.observer.port)
    entry = {"ae_title": archive.ae_title, "host": archive.host, "port": archive.port}
    config = {"completion": {"ask": "ASKED"}, "peer": [entry], "pipelines": {"folder": str(tmp_path)}}
    stated = Stated(composition.conformance(Config.model_validate(config)))
    asked = archive_by_dimse("ASKED", archive, "NODE", lambda _: None)
    assert asked.listed("1.2", "1.2.3") == frozenset()
    with pytest.raises(ContextRefused):
        asked.fetch("1.2", "1.2.3", ["1.2.3.4"], [MRImageStorage], lambda: False)
    assert running.observer.proposed("ASKED") == {
        each if each.SOPClassUID else replace(each, SOPClassUID=MRImageStorage)
        for each in contexts_of(stated.rows("Proposed presentation contexts: evidence"))
    }


def test_looking_for_priors_proposes_what_is_stated(running, tmp_path):
    """Of an archive that takes part in nothing but C-FIND."""
    archive = Peer("EARLIER", "127.0.0.1", running.observer.port)
    entry = {"ae_title": archive.ae_title, "host": archive.host, "port": archive.port}
    config = {"priors": {"ask": "EARLIER"}, "peer": [entry], "pipelines": {"folder": str(tmp_path)}}
    stated = Stated(composition.conformance(Config.model_validate(config)))
    asked = archive_by_dimse("EARLIER", archive, "NODE", lambda _: None)
    assert asked.listed("1.2", "1.2.3") == frozenset()
    with pytest.raises(ContextRefused):
        asked.fetch("1.2", "1.2.3", ["1.2.3.4"], SOP_CLASSES, lambda: False)
    proposed = contexts_of(stated.rows("Proposed presentation contexts: priors"))
    assert running.observer.proposed("EARLIER") == proposed


def _ask_for_commitment(node: RunningNode, held: Dataset) -> None:
    """As one who takes no report on the same association: it comes on one of its own."""
    reference, ds = Dataset(), Dataset()
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = (
        held.SOPClassUID,
        held.SOPInstanceUID,
    )
    ds.TransactionUID, ds.ReferencedSOPSequence = "1.2.3.4.5", [reference]
    assoc = ask(node, [build_context(PUSH_MODEL)])
    assoc.bind(evt.EVT_N_EVENT_REPORT, lambda _: (PROCESSING_FAILURE, None))
    status, _ = assoc.send_n_action(ds, 1, PUSH_MODEL, PUSH_MODEL_INSTANCE)
    assert status.Status == 0
    assoc.release()
