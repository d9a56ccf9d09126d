"""Progress of work that takes minutes, as lines: they read the same on a terminal and in a log."""

from collections.abc import Iterator

from hepcli.data._spec import Block, OnProgress

_EXAMPLES_A_LINE = 100_000


def report_blocks(
    blocks: Iterator[Block], what: str, num_examples: int, report: OnProgress
) -> Iterator[Block]:
    """Pass blocks on and report how far they got.

    Args:
        blocks: images and labels, in order.
        what: what happens to the examples, to begin each line with.
        num_examples: how many examples there should be.
        report: receives a line for every 100,000 examples and one at the end.

    Yields:
        The blocks, unchanged.
    """
    done = 0
    for block in blocks:
        yield block
        before, done = done, done + len(block[1])
        if done == num_examples or done // _EXAMPLES_A_LINE > before // _EXAMPLES_A_LINE:
            report(f"{what}: {done:,} of {num_examples:,} examples")
