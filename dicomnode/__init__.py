"""A DICOM node beside the PACS: a study goes in, an AI result comes back as standard DICOM."""

__version__ = "0.1.0"
