"""DIMSE: what takes instances in and answers queries, and what sends and asks (PS3.4, PS3.7, PS3.8)."""
