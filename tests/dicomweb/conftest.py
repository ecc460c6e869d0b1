from collections.abc import Iterator

import pytest

from tests.dicomweb.web import Web, serving


@pytest.fixture
def web(tmp_path) -> Iterator[Web]:
    """A running STOW server over an empty store."""
    with serving(tmp_path) as web:
        yield web
