"""Findings as DICOM: Segmentation and report, their origin, and the gate before they are sent."""
