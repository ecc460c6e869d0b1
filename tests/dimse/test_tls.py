"""DIMSE by TLS: who is let in, who is not, and that nobody waits for a peer that says nothing."""

from __future__ import annotations

import select
import socket
import ssl
import subprocess
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from dicomnode.dimse.sender import echo, send
from dicomnode.dimse.tls import ListenerTLS
from dicomnode.errors import AssociationFailed
from dicomnode.model.peer import Peer, PeerTLS
from tests.dimse.archive import archive
from tests.dimse.certificates import Authority, openssl
from tests.dimse.nodes import AE_TITLE, Node, StartNode, dataset_bytes, small_ct, write
from tests.peers import free_port, run, storescp, wait_for


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "certificates")


def listener(authority: Authority, *, clients: bool = True) -> ListenerTLS:
    shown = authority.certificate("node")
    return ListenerTLS(0, shown.certificate, shown.key, authority.ca if clients else "")


def spoken_to(authority: Authority, name: str = "client") -> PeerTLS:
    shown = authority.certificate(name)
    return PeerTLS(authority.ca, shown.certificate, shown.key)


def peer_of(node: Node, tls: PeerTLS | None) -> Peer:
    return Peer(AE_TITLE, "127.0.0.1", node.receiver.tls_port, 10.0, 20.0, tls)


def test_both_ports_take_instances(start_node: StartNode, authority: Authority, tmp_path: Path) -> None:
    node = start_node(tls=listener(authority))
    outcomes: list[object] = []
    for peer in (node.peer, peer_of(node, spoken_to(authority))):
        send(peer, "CT1", [write(small_ct(), tmp_path)], lambda _, error: outcomes.append(error))
    assert outcomes == [None, None]
    assert node.receiver.port != node.receiver.tls_port


def test_on_one_port_nobody_is_heard_in_the_clear(start_node: StartNode, authority: Authority) -> None:
    port = free_port()
    tls = listener(authority)
    node = start_node(port=port, tls=ListenerTLS(port, tls.certificate, tls.key, tls.ca))
    echo(peer_of(node, spoken_to(authority)), "CT1")
    with pytest.raises(AssociationFailed):
        echo(peer_of(node, None), "CT1")


def test_a_peer_without_a_certificate_is_let_in_only_where_none_is_asked_for(
    start_node: StartNode, authority: Authority
) -> None:
    anonymous = PeerTLS(authority.ca)
    with pytest.raises(AssociationFailed):
        echo(peer_of(start_node(tls=listener(authority)), anonymous), "CT1")
    echo(peer_of(start_node(tls=listener(authority, clients=False)), anonymous), "CT1")


def test_a_certificate_of_another_authority_is_refused_on_either_side(
    start_node: StartNode, authority: Authority, tmp_path: Path
) -> None:
    node = start_node(tls=listener(authority))
    other = Authority(tmp_path / "other", "other")
    shown = other.certificate("client")
    with pytest.raises(AssociationFailed):
        echo(peer_of(node, PeerTLS(authority.ca, shown.certificate, shown.key)), "CT1")
    shown = authority.certificate("client")
    with pytest.raises(AssociationFailed):
        echo(peer_of(node, PeerTLS(other.ca, shown.certificate, shown.key)), "CT1")


def test_a_certificate_for_another_host_is_refused_unless_told_otherwise(
    start_node: StartNode, authority: Authority
) -> None:
    shown = authority.certificate("elsewhere", "DNS:elsewhere.example")
    node = start_node(tls=ListenerTLS(0, shown.certificate, shown.key))
    with pytest.raises(AssociationFailed):
        echo(peer_of(node, PeerTLS(authority.ca)), "CT1")
    echo(peer_of(node, PeerTLS(authority.ca, verify_host=False)), "CT1")


@pytest.mark.parametrize(("version", "taken"), [("TLSv1_1", False), ("TLSv1_2", True), ("TLSv1_3", True)])
def test_older_versions_than_1_2_are_refused(
    start_node: StartNode, authority: Authority, version: str, taken: bool
) -> None:
    node = start_node(tls=listener(authority, clients=False))
    context = ssl.create_default_context(cafile=authority.ca)
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = ssl.TLSVersion[version]
    with socket.create_connection(("127.0.0.1", node.receiver.tls_port), timeout=10) as plain:
        if taken:
            with context.wrap_socket(plain, server_hostname="127.0.0.1") as connection:
                assert connection.version() == version.replace("_", ".")
        else:
            with pytest.raises(ssl.SSLError):
                context.wrap_socket(plain, server_hostname="127.0.0.1")


def is_closed(connection: socket.socket) -> bool:
    readable, _, _ = select.select([connection], [], [], 0)
    return bool(readable)


def wait_until_closed(connection: socket.socket) -> None:
    with connection, suppress(ConnectionResetError):
        while connection.recv(100):
            pass


def test_who_says_nothing_in_the_handshake_holds_up_nobody_and_is_hung_up_on(
    start_node: StartNode, authority: Authority
) -> None:
    node = start_node(tls=listener(authority))
    peer = peer_of(node, spoken_to(authority))
    silent = [socket.create_connection(("127.0.0.1", node.receiver.tls_port), timeout=20) for _ in range(5)]
    silent[0].sendall(b"\x16\x03\x01")
    silent[1].sendall(b"GET / HTTP/1.1\r\n\r\n")
    echo(peer, "CT1")
    assert not any(is_closed(connection) for connection in silent if connection is not silent[1])
    for connection in silent:
        wait_until_closed(connection)


def test_openssl_that_completes_the_handshake_and_then_says_nothing_blocks_nobody(
    start_node: StartNode, authority: Authority
) -> None:
    node = start_node(tls=listener(authority, clients=False))
    command = [openssl(), "s_client", "-quiet", "-connect", f"127.0.0.1:{node.receiver.tls_port}"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        wait_for(lambda: any("AcceptorThread" in thread.name for thread in threading.enumerate()))
        echo(peer_of(node, PeerTLS(authority.ca)), "CT1")
    finally:
        process.kill()
        process.communicate()


def dcmtk_options(authority: Authority, *, name: str = "dcmtk") -> list[str]:
    shown = authority.certificate(name)
    return ["+tls", shown.key, shown.certificate, "+cf", authority.ca]


def test_storescu_sends_by_tls(start_node: StartNode, authority: Authority, tmp_path: Path) -> None:
    instances = [write(small_ct(), tmp_path) for _ in range(3)]
    node = start_node(tls=listener(authority))
    run(
        "storescu", *dcmtk_options(authority), "-aec", "DICOMNODE", "127.0.0.1", node.receiver.tls_port,
        *(one.path for one in instances),
    )  # fmt: skip
    assert {received.SOPInstanceUID: received.data for received in node.received} == {
        one.SOPInstanceUID: dataset_bytes(one.path) for one in instances
    }


def test_findscu_asks_by_tls(authority: Authority, tmp_path: Path) -> None:
    with archive(tmp_path, tls=listener(authority)) as node:
        study = node.keep_study()[0].StudyInstanceUID
        at = ("-aec", "DICOMNODE", "127.0.0.1", node.receiver.tls_port)
        named = ("-k", "QueryRetrieveLevel=STUDY", "-k", "StudyInstanceUID")
        found = run("findscu", "-v", "-S", *dcmtk_options(authority), *at, *named)
    assert study in found.stdout + found.stderr


def test_storescp_is_sent_to_by_tls_also_for_a_move_that_was_asked_for_in_the_clear(
    authority: Authority, tmp_path: Path
) -> None:
    with storescp(tmp_path / "moved", *dcmtk_options(authority)) as plain:
        told = Peer(plain.ae_title, plain.host, plain.port, tls=spoken_to(authority))
        outcomes: list[object] = []
        send(told, "NODE", [write(small_ct(), tmp_path)], lambda _, error: outcomes.append(error))
        assert outcomes == [None]
        with archive(tmp_path, [told]) as node:
            study = node.keep_study()[0].StudyInstanceUID
            at = ("-aec", "DICOMNODE", "127.0.0.1", node.receiver.port)
            named = ("-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={study}")
            run("movescu", "-S", "-aem", "STORESCP", *at, *named)
    assert len(list((tmp_path / "moved").iterdir())) == 1 + 6
