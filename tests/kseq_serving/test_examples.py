"""Examples of a request as bytes."""

import pytest

from kseq_serving.errors import Code, ServingError
from kseq_serving.inference import examples
from kseq_serving.protocol.protos import Input


def test_a_context_that_would_fill_the_memory_is_refused(monkeypatch: pytest.MonkeyPatch):
    given = Input()
    given.example_list_with_context.context.features.feature["x"].float_list.value.extend([0.0] * 100)
    for _ in range(10):
        given.example_list_with_context.examples.add()
    size = given.example_list_with_context.context.ByteSize()
    assert len(examples.serialize(given)) == 10
    monkeypatch.setattr(examples, "MAX_CONTEXT_BYTES", 10 * size - 1)
    with pytest.raises(ServingError, match=f"has {10 * size} bytes") as refused:
        examples.serialize(given)
    assert refused.value.code is Code.RESOURCE_EXHAUSTED
