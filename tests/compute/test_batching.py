import random

from ragsmith.compute.batching import length_batches, token_batches


def test_sequences_of_like_length_share_a_batch_up_to_the_padded_limit() -> None:
    assert length_batches([3, 9, 1, 5, 5, 20, 2], batch_tokens=10) == [[5], [1], [3, 4], [0, 6, 2]]


def test_random_lengths_are_each_batched_once_and_only_a_lone_one_exceeds_the_limit() -> None:
    draw = random.Random(0)
    for _ in range(100):
        lengths = [draw.randint(0, 60) for _ in range(draw.randint(0, 40))]
        batches = length_batches(lengths, batch_tokens=50)
        assert sorted(position for batch in batches for position in batch) == list(range(len(lengths)))
        assert all(len(batch) == 1 or len(batch) * max(lengths[p] for p in batch) <= 50 for batch in batches)


def test_packed_batches_are_filled_up_with_what_still_fits_and_hold_each_sequence_once() -> None:
    draw = random.Random(1)
    for _ in range(100):
        lengths = [draw.randint(1, 60) for _ in range(draw.randint(0, 80))]
        batches = token_batches(lengths, batch_tokens=50)
        assert sorted(position for batch in batches for position in batch) == list(range(len(lengths)))
        for number, batch in enumerate(batches):
            held = [lengths[position] for position in batch]
            assert held == sorted(held, reverse=True), "groups of equal length are neighbours"
            assert sum(held) <= 50 or len(batch) == 1
            later = [lengths[position] for rest in batches[number + 1 :] for position in rest]
            assert all(sum(held) + length > max(50, held[0]) for length in later), "there was room for another"


def test_nearly_all_rows_of_many_packed_batches_are_used() -> None:
    draw = random.Random(2)
    lengths = [min(256, 20 + int(draw.expovariate(1 / 120))) for _ in range(2000)]
    batches = token_batches(lengths, batch_tokens=2048)
    assert len(batches) == -(-sum(lengths) // 2048)
