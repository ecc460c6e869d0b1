"""Messages come back as they were sent, and anything else is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicomnode.pipeline.contract import (
    Failed,
    ProtocolError,
    Ready,
    Request,
    decode_order,
    decode_reply,
    encode,
)


@given(st.lists(st.text(max_size=30), max_size=5))
def test_a_request_comes_back_as_it_was_sent(paths):
    request = Request(paths=tuple(paths))
    assert encode(request).count(b"\n") == 1
    assert decode_order(encode(request)) == request


@pytest.mark.parametrize("reply", [Ready(device="cpu", isolated=True), Failed(error="KeyError", where="x:1")])
def test_a_reply_comes_back_as_it_was_sent(reply):
    assert decode_reply(encode(reply)) == reply


@given(st.binary(max_size=200))
def test_any_other_line_is_refused(line):
    with pytest.raises(ProtocolError):
        decode_reply(line)


def test_a_number_that_is_not_finite_is_refused():
    with pytest.raises(ProtocolError):
        decode_reply(b'{"kind":"done","statistics":{},"values":{"x":NaN},"timings":{}}')
