import random

from ragsmith.compute.batching import length_batches


def test_sequences_of_like_length_share_a_batch_up_to_the_padded_limit() -> None:
    assert length_batches([3, 9, 1, 5, 5, 20, 2], batch_tokens=10) == [[5], [1], [3, 4], [0, 6, 2]]


def test_random_lengths_are_each_batched_once_and_only_a_lone_one_exceeds_the_limit() -> None:
    draw = random.Random(0)
    for _ in range(100):
        lengths = [draw.randint(0, 60) for _ in range(draw.randint(0, 40))]
        batches = length_batches(lengths, batch_tokens=50)
        assert sorted(position for batch in batches for position in batch) == list(range(len(lengths)))
        assert all(len(batch) == 1 or len(batch) * max(lengths[p] for p in batch) <= 50 for batch in batches)
