"""The proof that barriers order a dispatch of warp groups: what it accepts and what it refuses."""

from __future__ import annotations

import dispatch_order
import pytest

# Two groups: warps 0 to 3 write the state of warp 4, let it work once, and send it home.
PTX = """
.visible .entry kernel()
.reqntid 160
{
	setp.lt.u32 	%p1, %r2, 4;
	@%p1 bra 	$L__BB0_9;
	bra.uni 	$L__BB0_2;
$L__BB0_9:
	st.shared.b32 	[global_smem], 0;
	barrier.sync 	1;
	bar.sync 	0, 128;
	barrier.sync 	1;
	barrier.sync 	1;
	st.shared.b32 	[global_smem], 16843009;
	barrier.sync 	1;
$L__BB0_10:                             // %common.ret
	ret;
$L__BB0_2:                              // the other warp waits for a byte
	barrier.sync 	1;
	ld.shared.b8 	%r4, [%r6+-4];
	setp.gt.u32 	%p2, %r4, 1;
	@%p2 bra 	$L__BB0_2;
	$L_brx_0: .branchtargets
		$L__BB0_5,
		$L__BB0_10;
	brx.idx 	%r4, $L_brx_0;
$L__BB0_5:
	barrier.sync 	1;
$L__BB0_6:                              // its work, a loop
	@%p3 bra 	$L__BB0_6;
	barrier.sync 	1;
	bra.uni 	$L__BB0_2;
                                        // -- End function
}
"""
LAST_WRITE = "	st.shared.b32 	[global_smem], 16843009;\n"


def test_writes_and_reads_with_a_barrier_between_them_are_ordered():
    order = dispatch_order.order(PTX)

    assert ({0, 3}, {1, 4}, {4}) == (order.writes, order.reads, order.exits)
    assert order.proven


def test_a_write_on_the_reads_side_of_the_barrier_is_a_race():
    """The first state is read while the next one may be written already."""
    early = PTX.replace(LAST_WRITE, "").replace("	bar.sync 	0, 128;\n", LAST_WRITE)

    assert not dispatch_order.order(early).proven


def test_a_warp_that_ends_before_the_others_is_not_waited_for():
    """The first warps end at once; a later write is of no concern then."""
    left = PTX.replace("	barrier.sync 	1;\n$L__BB0_10", "$L__BB0_10")
    order = dispatch_order.order(left)

    assert ({3, 4}, False) == (order.exits, order.proven)


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("bar.sync 	0, 128", "bar.sync 	1, 128", "expected barrier 1 for all threads"),
        ("bar.sync 	0, 128", "bar.sync 	0", "expected barrier 1 for all threads"),
        ("bar.sync 	0, 128", "@%p3 barrier.sync 	1", "expected barrier 1 for all threads"),
        ("%r2, 4;", "%r2, 8;", "parts warps 0 to 3"),
        (LAST_WRITE, "", "more than 64 barriers"),  # the other warp is never sent home
        (".reqntid 160", "", "number of threads"),
        (
            "	bar.sync 	0, 128;",
            "	ld.shared.b8 	%r4, [%r6];",
            "before it is written|first warps",
        ),
    ],
)
def test_a_dispatch_of_another_form_is_refused(old, new, complaint):
    assert old in PTX

    with pytest.raises(ValueError, match=complaint):
        dispatch_order.order(PTX.replace(old, new))
