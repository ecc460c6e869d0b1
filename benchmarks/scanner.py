"""A sender that costs next to nothing: C-STORE requests made beforehand, written to a socket.

Each association is a process of its own. The same bytes go to every receiver, in PDUs as long as it takes
them; TCP_NODELAY is set, and the next instance is sent when the response to the last is there.
"""

from __future__ import annotations

import multiprocessing
import socket
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.synchronize import Barrier

import numpy as np
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid
from pynetdicom import build_context
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    ImplementationClassUIDNotification,
    MaximumLengthNotification,
)

from dicomnode.dimse.command_set import read_command

LONGEST_PDU = 1_048_576
"""Where the receiver takes PDUs of any length."""
_FORK = multiprocessing.get_context("fork")
_LIMIT_S = 300.0
_STATUS = 0x0900
_COMMAND, _LAST = 1, 2


@dataclass(frozen=True, slots=True)
class Target:
    """Where a receiver listens, what it is called, and its process."""

    ae_title: str
    port: int
    pid: int = 0


def seconds_to_store(target: Target, side: int, instances: int, associations: int) -> float:
    """How long until `instances` of `side` by `side` pixels are acknowledged, a series an association.

    What opens and ends the associations is not counted.
    """
    ready, done = _FORK.Barrier(associations + 1), _FORK.Barrier(associations + 1)
    share = instances // associations
    senders = [
        _FORK.Process(target=_send_series, args=(target, side, share, ready, done), daemon=True)
        for _ in range(associations)
    ]
    for sender in senders:
        sender.start()
    ready.wait(_LIMIT_S)
    began = time.perf_counter()
    done.wait(_LIMIT_S)
    seconds = time.perf_counter() - began
    for sender in senders:
        sender.join()
    return seconds * instances / (share * associations)


def _send_series(target: Target, side: int, instances: int, ready: Barrier, done: Barrier) -> None:
    with socket.create_connection(("127.0.0.1", target.port), timeout=_LIMIT_S) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        longest = _associate(connection, target)
        requests = [
            request(number, uid, data, longest)
            for number, (uid, data) in enumerate(_series(side, instances), start=1)
        ]
        try:
            ready.wait(_LIMIT_S)
            for each in requests:
                connection.sendall(each)
                _require_success(connection)
            done.wait(_LIMIT_S)
        except BaseException:
            ready.abort()
            done.abort()
            raise
        _release(connection)


def seconds_to_store_one(target: Target, gigabytes: float) -> float:
    """How long it takes until one multi-frame instance of that length is acknowledged."""
    frames = int(gigabytes * 1e9) // (1024 * 1024 * 2)
    (uid, head), *_ = _series(1024, 1, frames)
    block = np.random.default_rng(1).bytes(LONGEST_PDU)
    length = frames * 1024 * 1024 * 2
    with socket.create_connection(("127.0.0.1", target.port), timeout=_LIMIT_S) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        longest = _associate(connection, target)
        began = time.perf_counter()
        connection.sendall(request(1, uid, head, longest, more=True))
        piece = longest - 6
        full = struct.pack(">BxLLBB", 4, piece + 6, piece + 2, 1, 0) + block[:piece]
        whole, rest = divmod(length - 1, piece)
        for _ in range(whole):
            connection.sendall(full)
        connection.sendall(struct.pack(">BxLLBB", 4, rest + 7, rest + 3, 1, _LAST) + block[: rest + 1])
        _require_success(connection)
        seconds = time.perf_counter() - began
        _release(connection)
    return seconds


def _associate(connection: socket.socket, target: Target) -> int:
    """Open the association; returns how long a PDU of P-DATA may be, without its own head."""
    primitive = A_ASSOCIATE()
    primitive.application_context_name = "1.2.840.10008.3.1.1.1"
    primitive.calling_ae_title, primitive.called_ae_title = "SCANNER", target.ae_title
    context = build_context(CTImageStorage, ExplicitVRLittleEndian)
    context.context_id = 1
    primitive.presentation_context_definition_list = [context]
    longest, implementation = MaximumLengthNotification(), ImplementationClassUIDNotification()
    longest.maximum_length_received = 16_384
    implementation.implementation_class_uid = "1.2.826.0.1.3680043.9.3811.9.9"
    primitive.user_information = [longest, implementation]
    connection.sendall(A_ASSOCIATE_RQ(primitive).encode())
    answer = A_ASSOCIATE_AC()
    answer.decode(_pdu(connection))
    return answer.user_information.maximum_length or LONGEST_PDU


def _release(connection: socket.socket) -> None:
    connection.sendall(struct.pack(">BxL4x", 5, 4))
    _pdu(connection)


def _require_success(connection: socket.socket) -> None:
    elements = read_command(_pdu(connection)[12:])
    if elements[_STATUS] != b"\x00\x00":
        raise RuntimeError(f"the receiver answered {elements[_STATUS]!r}")


def _pdu(connection: socket.socket) -> bytes:
    head = _exactly(connection, 6)
    return head + _exactly(connection, struct.unpack(">BxL", head)[1])


def _exactly(connection: socket.socket, length: int) -> bytes:
    data = b""
    while len(data) < length:
        block = connection.recv(length - len(data))
        if not block:
            raise ConnectionError("the receiver has hung up")
        data += block
    return data


def request(number: int, uid: str, data: bytes, longest: int, *, more: bool = False) -> bytes:
    """A C-STORE request as it goes over the wire; `more`: the data set does not end with `data`."""
    pdus = [_p_data(_command(number, uid), _COMMAND | _LAST)]
    piece = longest - 6
    for at in range(0, len(data), piece):
        last = 0 if more or at + piece < len(data) else _LAST
        pdus.append(_p_data(data[at : at + piece], last))
    return b"".join(pdus)


def _p_data(fragment: bytes, control: int) -> bytes:
    return struct.pack(">BxLLBB", 4, len(fragment) + 6, len(fragment) + 2, 1, control) + fragment


def _command(number: int, uid: str) -> bytes:
    elements = b"".join(
        struct.pack("<HHL", 0, element, len(value)) + value
        for element, value in (
            (0x0002, _padded(CTImageStorage)),
            (0x0100, struct.pack("<H", 1)),
            (0x0110, struct.pack("<H", number)),
            (0x0700, struct.pack("<H", 0)),
            (0x0800, struct.pack("<H", 1)),
            (0x1000, _padded(uid)),
        )
    )
    return struct.pack("<HHLL", 0, 0, 4, len(elements)) + elements


def _padded(uid: str) -> bytes:
    return uid.encode() + b"\0" * (len(uid) % 2)


def _series(side: int, instances: int, frames: int = 0) -> Iterator[tuple[str, bytes]]:
    """Data sets of a CT series, and their SOPInstanceUIDs; with `frames` all but the pixels' bytes."""
    random = np.random.default_rng()
    ds = Dataset()
    ds.SOPClassUID, ds.Modality, ds.ImageType = CTImageStorage, "CT", ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.PatientName, ds.PatientID, ds.PatientBirthDate, ds.PatientSex = "Bench^Mark", "1", "19700101", "O"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = generate_uid(), generate_uid()
    ds.StudyDate, ds.StudyTime, ds.AccessionNumber, ds.StudyID = "20260101", "120000", "A1", "1"
    ds.SeriesDate, ds.AcquisitionDate, ds.ContentDate, ds.SeriesTime = *("20260101",) * 3, "120000"
    ds.Manufacturer, ds.ManufacturerModelName, ds.InstitutionName = "Maker", "Model", "Hospital"
    ds.StudyDescription, ds.SeriesDescription, ds.ProtocolName = "Chest", "1.5 mm", "Chest routine"
    ds.FrameOfReferenceUID, ds.SeriesNumber, ds.PatientPosition = generate_uid(), 1, "HFS"
    ds.KVP, ds.XRayTubeCurrent, ds.ExposureTime, ds.ConvolutionKernel = "120", 200, 500, "B30f"
    ds.ImageOrientationPatient, ds.PixelSpacing = ["1", "0", "0", "0", "1", "0"], ["0.8", "0.8"]
    ds.SliceThickness, ds.RescaleSlope, ds.RescaleIntercept = "1.5", "1", "-1024"
    ds.WindowCenter, ds.WindowWidth = "40", "400"
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.Rows, ds.Columns = 1, "MONOCHROME2", side, side
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 0
    for index in range(instances):
        ds.SOPInstanceUID, ds.InstanceNumber = generate_uid(), index + 1
        ds.ImagePositionPatient = ["-200", "-200", str(index * 1.5)]
        if frames:
            ds.NumberOfFrames = frames
            length = struct.pack("<HH2sHL", 0x7FE0, 0x0010, b"OW", 0, frames * side * side * 2)
            yield ds.SOPInstanceUID, _encoded(ds) + length
        else:
            ds.PixelData = random.bytes(side * side * 2)
            yield ds.SOPInstanceUID, _encoded(ds)


def _encoded(ds: Dataset) -> bytes:
    buffer = DicomBytesIO()
    buffer.is_implicit_VR, buffer.is_little_endian = False, True
    write_dataset(buffer, ds)
    return buffer.getvalue()
