"""
The Triton kernel that polls pinned memory: the blocker where streams can't wait themselves.
"""

from __future__ import annotations

from typing import Any

import triton
import triton.language as tl


@triton.jit(do_not_specialize=["ticket"])  # type: ignore[untyped-decorator, unused-ignore]
def poll(word_ptr, ticket):  # type: ignore[no-untyped-def]
    """
    Return when the word has reached the ticket.
    """
    # `ticket` is not specialised: the value 1 would become a constant and compile another kernel.
    seen = tl.load(word_ptr, volatile=True)
    while seen < ticket:
        seen = tl.load(word_ptr, volatile=True)


def launch_poll(word: Any, ticket: int) -> None:
    """
    Enqueue the polling kernel on the current stream; `word` is a pinned int32 tensor.
    """
    poll[(1,)](word, ticket, num_warps=1)
