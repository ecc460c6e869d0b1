"""The settings that pynetdicom keeps for a whole process."""

from __future__ import annotations

import logging

import pydicom.config
from pynetdicom import _config, register_uid
from pynetdicom.service_class import StorageServiceClass
from pynetdicom.sop_class import uid_to_service_class

from dicomnode.dimse.presentation import STORAGE_CLASSES


def configure_pynetdicom() -> None:
    """Set what pynetdicom and pydicom keep for the whole process; a second call changes nothing.

    - Nothing of a message is logged: pynetdicom's log shows identifiers, AE titles and file paths, and
      pydicom's warnings of invalid values show the values. What is worth knowing is logged by this package.
    - A file is sent as it lies on disk, not decoded and encoded again.
    - Storage SOP classes that pynetdicom does not know are storage SOP classes too.
    """
    _config.LOG_HANDLER_LEVEL = "none"
    _config.LOG_REQUEST_IDENTIFIERS = False
    _config.LOG_RESPONSE_IDENTIFIERS = False
    _config.STORE_SEND_CHUNKED_DATASET = True
    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL + 1)
    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
    for uid in STORAGE_CLASSES:
        if uid_to_service_class(uid) is not StorageServiceClass:
            register_uid(uid, "Storage_" + uid.replace(".", "_"), StorageServiceClass)
