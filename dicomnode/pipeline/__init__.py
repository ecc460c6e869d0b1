"""Pipelines: MONAI bundles with a manifest, each run in a child process without network and database."""
