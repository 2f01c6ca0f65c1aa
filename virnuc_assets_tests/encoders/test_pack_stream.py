import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from virnuc_assets.encoders.pack_stream import PackStream
from virnuc_assets.encoders.packing import Frame, Items, cut_items

FRAME = Frame(first=101, last=102, padding=103)


def items_of(lengths: list[int], first_token: int) -> Items:
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    tokens = (first_token + np.arange(offsets[-1], dtype=np.int32)) % 97
    return cut_items(tokens, offsets, limit=62, long_sequences="truncate")


batches_of_lengths = st.lists(st.lists(st.integers(1, 62), max_size=40), max_size=6)


@given(batches_of_lengths, st.integers(64, 400))
def test_every_item_of_every_batch_is_in_one_pack_once_in_its_frame(batches, budget):
    stream = PackStream(FRAME, budget)
    everything = [items_of(lengths, 7 * number) for number, lengths in enumerate(batches)]

    packs = [pack for number, items in enumerate(everything) for pack in stream.add(number, items)]
    packs += stream.flush()

    seen = []
    for shared in packs:
        pack = shared.pack
        assert pack.tokens.shape == (budget,)
        places = np.concatenate([share.places for share in shared.shares])
        assert sorted(places.tolist()) == list(range(len(pack.items)))
        for share in shared.shares:
            items = everything[share.batch]
            for item, place in zip(share.items, share.places, strict=True):
                seen.append((share.batch, int(item)))
                segment = slice(pack.cu_seqlens[place], pack.cu_seqlens[place + 1])
                content = items.tokens[items.starts[item] :][: items.lengths[item]].tolist()
                assert pack.tokens[segment].tolist() == [FRAME.first, *content, FRAME.last]
    wanted = [(number, i) for number, items in enumerate(everything) for i in range(len(items))]
    assert sorted(seen) == wanted


@given(batches_of_lengths, st.integers(64, 400))
def test_a_batch_is_through_before_the_second_pack_of_one_that_fills_more_than_one(batches, budget):
    stream = PackStream(FRAME, budget)
    for number, lengths in enumerate(batches):
        packs = list(stream.add(number, items_of(lengths, 0)))
        for shared in packs[1:]:
            assert {share.batch for share in shared.shares} == {number}


def test_packs_are_full_whatever_the_size_of_batches():
    generator = np.random.default_rng(0)
    lengths = generator.integers(45, 51, 20_000)
    stream = PackStream(FRAME, 4096)

    packs = [
        pack
        for number, batch in enumerate(np.split(lengths, 400))
        for pack in stream.add(number, items_of(batch.tolist(), 0))
    ]
    packs += stream.flush()

    real = sum(shared.pack.real_tokens for shared in packs)
    assert real == (lengths + 2).sum()
    assert real / (len(packs) * 4096) > 0.99


def test_what_is_left_goes_when_asked_for():
    stream = PackStream(FRAME, 64)
    assert list(stream.add("a", items_of([10, 20], 0))) == []
    (shared,) = stream.flush()
    assert shared.pack.real_tokens == 34
    assert list(stream.flush()) == []


def test_a_pack_with_no_room_left_does_not_wait():
    (shared,) = PackStream(FRAME, 64).add("a", items_of([62], 0))
    assert shared.pack.real_tokens == 64
