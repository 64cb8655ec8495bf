"""What an emulated engine remembers of the prompts that it read."""

from bestserve.proxy.emulator_prefix import BLOCK, Prefixes


def prompt(tokens: int, begin: int = 0) -> bytes:
    return b"".join(n.to_bytes(4, "big") for n in range(begin, begin + tokens))


def test_nothing_is_remembered_at_first() -> None:
    """The first prompt is new, and the same one again is known but for its last token."""
    prefixes = Prefixes(1000)

    assert prefixes.read(prompt(64)) == 0
    assert prefixes.read(prompt(64)) == 63
    assert prefixes.read(prompt(65)) == 64


def test_only_whole_blocks_from_the_beginning_count() -> None:
    """What differs in its first token shares nothing; what differs later shares the blocks before."""
    prefixes = Prefixes(1000)
    prefixes.read(prompt(64))

    assert prefixes.read(prompt(64, begin=1)) == 0
    assert prefixes.read(prompt(2 * BLOCK + 5) + prompt(40, begin=900)) == 2 * BLOCK
    assert prefixes.read(prompt(BLOCK - 1)) == 0


def test_the_least_lately_seen_is_forgotten() -> None:
    """Room for two blocks: reading a third forgets the older one."""
    prefixes = Prefixes(2 * BLOCK)
    old, kept, new = prompt(BLOCK), prompt(BLOCK, begin=100), prompt(BLOCK, begin=200)
    for one in (old, kept, new):
        prefixes.read(one)

    assert prefixes.read(kept) == BLOCK - 1
    assert prefixes.read(old) == 0


def test_an_empty_prompt_shares_nothing() -> None:
    """There is nothing to remember."""
    assert Prefixes(100).read(b"") == 0
