"""The text of a kernel becomes statements."""

import pytest

from tools.ptx.errors import PtxError
from tools.ptx.parser import Label, entries, parse

TEXT = """
.version 8.8
.extern .shared .align 16 .b8 global_smem[];
.visible .entry first(.param .u64 first_param_0) { ret; }
.visible .entry second_1(
  .param .u64 .ptr .global .align 1 a,   // a pointer
  .param .align 64 .b8 b[128]
)
.reqntid 64, 2
{
  .reg .pred %p<3>;
  .reg .b32 %r<4>, %extra;
  .shared .align 8 .b8 tile[12];
  .shared .align 8 .b8 other[4];
  .pragma "nounroll";
  .loc 1 2 3
$L__BB0_1:
  @!%p1 ld.global.v2.b32 {%r1, %r2}, [%rd1+-8];
  { .reg .b32 t; mov.b32 t, %r1; { .reg .b64 t; cvta.to.global.u64 t, t; } mov.b32 %r2, t; }
  st.shared::cta.b32 [tile], %extra; /* a
  comment */
  bra.uni $L__BB0_1;
}
"""


def test_a_kernel_is_found_by_the_first_letters_of_its_name():
    entry = parse(TEXT, "second")
    assert (entry.name, entry.parameters, entry.threads) == ("second_1", ["a", "b"], (64, 2, 1))
    assert entries(TEXT) == ["first", "second_1"]
    with pytest.raises(PtxError, match="no kernel 'third'; it has first, second_1"):
        parse(TEXT, "third")


def test_registers_have_the_declared_types_and_shared_arrays_their_places():
    entry = parse(TEXT, "second")
    assert [entry.type_of(name) for name in ("%p2", "%r3", "%extra", "%q1")] == ["pred", "b32", "b32", None]
    assert entry.shared == {"global_smem": 0, "tile": 0, "other": 16}
    assert entry.shared_bytes == 20


def test_statements_keep_guards_vectors_and_addresses():
    label, load, *_, jump = parse(TEXT, "second").statements
    assert label == Label("$L__BB0_1")
    assert (load.guard, load.negated, load.opcode) == ("%p1", True, "ld.global.v2.b32")
    assert load.operands == ("{%r1, %r2}", "[%rd1+-8]")
    assert jump.opcode == "bra.uni"


def test_registers_of_an_inner_scope_are_their_own():
    texts = [statement.text for statement in parse(TEXT, "second").statements[2:5]]
    assert texts == ["mov.b32 t@1, %r1", "cvta.to.global.u64 t@2, t@2", "mov.b32 %r2, t@1"]
    assert parse(TEXT, "second").type_of("t@2") == "b64"


@pytest.mark.parametrize("text", [".entry k() { mov.b32 %r1, 2;", ".entry k() { mov.b32 %r1, 2 }"])
def test_half_a_file_is_an_error(text):
    with pytest.raises(PtxError, match="ends inside"):
        parse(text, "k")
