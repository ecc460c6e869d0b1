"""`make viewer`: OHIF over an Orthanc that holds what the demo archived, as a radiologist would see it."""
