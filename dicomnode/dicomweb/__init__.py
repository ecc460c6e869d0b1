"""DICOMweb: what takes instances in, answers queries and gives instances out over HTTP (PS3.18)."""
