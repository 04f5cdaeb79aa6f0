"""The specification fits the header, and the published table is what it says."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpuserver.protocol.coverage import as_markdown
from gpuserver.protocol.declare import Class, Declaration, DeclarationError, Direction
from gpuserver.protocol.specification import _call, read_specification

COVERAGE = Path(__file__).resolve().parents[2] / "docs" / "coverage.md"


def test_every_symbol_has_one_class() -> None:
    specification = read_specification()
    assert set(specification.calls) == set(specification.header.functions)
    assert sum(c.call_class is not Class.NOT_YET for c in specification.calls.values()) >= 400


def test_the_published_table_is_up_to_date() -> None:
    assert COVERAGE.read_text() == as_markdown(read_specification())


def test_nothing_comes_out_of_a_call_that_is_not_awaited() -> None:
    for call in read_specification().calls.values():
        if call.call_class is Class.ASYNC:
            assert not [f for f in call.fields if f.direction in (Direction.OUT, Direction.INOUT)], call.symbol


@pytest.mark.parametrize(("symbol", "call_class"), [("cuStreamGetFlags", Class.ASYNC), ("cuStreamQuery", Class.CREATE)])
def test_a_contradiction_with_the_header_is_refused(symbol: str, call_class: Class) -> None:
    function = read_specification().header.functions[symbol]
    with pytest.raises(DeclarationError, match=symbol):
        _call(function, Declaration(symbol, call_class, "test"), "", False)
