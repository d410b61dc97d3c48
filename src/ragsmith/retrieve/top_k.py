"""The k nearest of many vectors for many queries: exact, with the bulk of the products in bfloat16."""

import warnings
from typing import TYPE_CHECKING

import numpy as np

from ragsmith.compute.device import Machine
from ragsmith.compute.parallel import side_by_side

if TYPE_CHECKING:
    import torch

# Queries and passages of one product: large enough for the processor's best rate, small enough to stay in its cache.
QUERY_BLOCK, PASSAGE_BLOCK = 512, 2048
MEASURED_BLOCK = 512  # passages whose lengths are taken at once: it makes several copies of them
GROUP = 16  # passages that share one maximum
# In the first block, so many groups for each of the k: with about k groups, nearly all passages would be of interest.
FIRST_GROUPS = 4
FLOAT_ERROR = 1e-6  # of a sum of float32 products of unit vectors
BFLOAT_ROUNDING = 2.0**-8  # largest relative error of a number rounded to bfloat16
# Where near-ties let more than this many times k candidates through, sorting everything costs less.
MOST_CANDIDATES = 24
GATHERED_FLOATS = 1 << 20  # floats of pairs that are multiplied together
SORTED_NUMBERS = 1 << 17  # candidates, with their padding, that are sorted together


def top_k(
    queries: np.ndarray, vectors: np.ndarray, k: int, machine: Machine, among: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest vectors of each query by inner product.

    In bf16, a first pass in bfloat16 finds all that may be among the k nearest: the error of each product is bounded
    by the lengths of what rounding took away (Cauchy and Schwarz), so nothing is lost. These few are then multiplied
    in float32. The result is that of an exact search. Memory beside arguments and result does not grow with them.

    Args:
        queries: float32, shape (queries, dimension).
        vectors: float32, shape (passages, dimension).
        k: at least 1; cut to the number of passages.
        machine: where it computes, and whether in bf16.
        among: rows of `vectors` to search, int, without repetition; None searches all.
    Returns:
        Scores (float32, best first; of equal ones the first searched) and rows of `vectors` (int64), both of shape
        (queries, k).
    Raises:
        ValueError: as `Searched.search`.
    """
    return Searched(vectors, machine, among).search(queries, k)


def pair_scores(queries: np.ndarray, vectors: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Inner products of each query with vectors of its own.

    Args:
        queries: float32, shape (queries, dimension).
        vectors: float32, shape (passages, dimension).
        rows: rows of `vectors`, shape (queries, width); where negative, the score is minus infinity.
    Returns:
        float32, the shape of `rows`.
    """
    scores = np.empty(rows.shape, dtype=np.float32)
    step = max(1, GATHERED_FLOATS // max(1, rows.shape[1] * vectors.shape[1]))
    for begin in range(0, len(rows), step):
        part = rows[begin : begin + step]
        scores[begin : begin + step] = np.matmul(vectors[part], queries[begin : begin + step, :, None])[:, :, 0]
    scores[rows < 0] = -np.inf
    return scores


def products(
    queries: "torch.Tensor", vectors: "torch.Tensor", bounds: "torch.Tensor", rows: "torch.Tensor"
) -> "torch.Tensor":
    """float32 inner products of query i with the vectors `rows[bounds[i]:bounds[i + 1]]`, one after another.

    No row may stand twice in the part of one query.
    """
    import torch

    # A sparse product reads each vector where it lies, four times as fast as gathering them first.
    shape = torch.sparse_csr_tensor(
        bounds, rows, torch.zeros(len(rows), device=queries.device), size=(len(queries), len(vectors))
    )
    found: torch.Tensor = torch.sparse.sampled_addmm(shape, queries, vectors.T, beta=0.0).values()
    return found


class Searched:
    """Vectors that are searched several times; see `top_k` for the arguments."""

    def __init__(self, vectors: np.ndarray, machine: Machine, among: np.ndarray | None = None) -> None:
        import torch

        self.machine = machine
        self.vectors = torch.from_numpy(np.ascontiguousarray(vectors)).to(machine.device)
        self.among = None if among is None else torch.from_numpy(np.asarray(among, dtype=np.int64)).to(machine.device)
        self.type = torch.bfloat16 if machine.precision == "bf16" else torch.float32
        self.count = len(self.vectors) if self.among is None else len(self.among)
        self.length = 0.0  # of the longest
        self.lost = 0.0  # the most that rounding took from one
        for begin in range(0, self.count, MEASURED_BLOCK):
            block = self.block(begin, MEASURED_BLOCK)
            self.length = max(self.length, float(block.norm(dim=1).max()))
            self.lost = max(self.lost, float((block - block.to(self.type).float()).norm(dim=1).max()))

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The k nearest of each query, as `top_k` gives them.

        Raises:
            ValueError: the vectors differ in length: the queries come from another model; or k is below 1.
        """
        import torch

        if queries.shape[1] != self.vectors.shape[1]:
            raise ValueError(
                f"The queries have {queries.shape[1]} dimensions and the index {self.vectors.shape[1]}: "
                "they come from different models. Build the index again with the model that encodes the queries."
            )
        if k < 1:
            raise ValueError(f"k is {k}; at least one neighbour must be asked for.")
        k = min(k, self.count)
        scores = np.empty((len(queries), k), dtype=np.float32)
        rows = np.empty((len(queries), k), dtype=np.int64)

        def work(begin: int) -> None:
            part = np.ascontiguousarray(queries[begin : begin + QUERY_BLOCK])
            with torch.inference_mode():
                found, places = search_block(torch.from_numpy(part).to(self.machine.device), self, k)
                scores[begin : begin + QUERY_BLOCK] = found.cpu().numpy()
                rows[begin : begin + QUERY_BLOCK] = self.rows(places).cpu().numpy()

        with warnings.catch_warnings():
            # "In beta" since torch 1.13; `products` says why it is used.
            warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
            warnings.filterwarnings("ignore", message="Sparse invariant checks are implicitly disabled")
            for _ in side_by_side(work, range(0, len(queries) if k else 0, QUERY_BLOCK), self.machine):
                pass
        return scores, rows

    def block(self, begin: int, size: int | None = None) -> "torch.Tensor":
        """float32 vectors from position `begin` on: so many, or `PASSAGE_BLOCK`."""
        end = begin + (size or PASSAGE_BLOCK)
        return self.vectors[begin:end] if self.among is None else self.vectors[self.among[begin:end]]

    def rows(self, places: "torch.Tensor") -> "torch.Tensor":
        """The rows of `vectors` at these positions."""
        return places if self.among is None else self.among[places]


def search_block(queries: "torch.Tensor", passages: Searched, k: int) -> "tuple[torch.Tensor, torch.Tensor]":
    """Exact scores and positions of the k nearest of one block of queries, both of shape (queries, k)."""
    import torch

    rough = queries.to(passages.type)
    candidates = gather_candidates(rough, passages, k, error_bound(queries, rough, passages))
    if candidates is None:
        return search_all(queries, passages, k)
    query, place = candidates
    counts = torch.bincount(query, minlength=len(queries))
    bounds = torch.nn.functional.pad(counts.cumsum(0), (1, 0))
    exact = products(queries, passages.vectors, bounds, passages.rows(place))
    return best_of_each(exact, place, bounds, k)


def error_bound(queries: "torch.Tensor", rough: "torch.Tensor", passages: Searched) -> "torch.Tensor":
    """How far each query's first-pass scores may be from the true ones, before they are rounded; shape (queries,)."""
    length, lost = queries.norm(dim=1), (queries - rough.float()).norm(dim=1)
    error: torch.Tensor = (FLOAT_ERROR * length + lost) * passages.length + (length + lost) * passages.lost
    return error


def gather_candidates(
    rough: "torch.Tensor", passages: Searched, k: int, error: "torch.Tensor"
) -> "tuple[torch.Tensor, torch.Tensor] | None":
    """All that may be among the k nearest: query numbers and positions, in the order of the queries.

    The k-th largest maximum of groups of passages is at most the k-th largest score. What is further below it than
    twice the error cannot be among the k nearest.

    Returns:
        None where near-ties let so many through that sorting everything costs less.
    """
    import torch

    limit = MOST_CANDIDATES * max(k, GROUP) * len(rough)
    room = torch.empty(len(rough) * min(PASSAGE_BLOCK, passages.count), dtype=rough.dtype, device=rough.device)
    mask = np.zeros(room.numel() + -room.numel() % 8, dtype=bool) if rough.device.type == "cpu" else None
    # Scores are compared by their bits, as whole numbers: several times as fast as bfloat16.
    best = as_bits(torch.full((len(rough), k), -0.0, dtype=rough.dtype, device=rough.device))
    found: list[tuple[torch.Tensor, torch.Tensor]] = []
    for begin in range(0, passages.count, PASSAGE_BLOCK):
        block = passages.block(begin).to(passages.type)
        size, together = len(block), GROUP
        while begin == 0 and together > 1 and size < FIRST_GROUPS * k * together:
            together //= 2
        # Written into the same memory each time: fresh pages cost half as much as the products.
        scores = as_bits(torch.mm(rough, block.T, out=room[: len(rough) * size].view(len(rough), size)))
        best = k_largest(torch.cat([best, *group_maxima(scores, together)], dim=1), k)
        floor = lowest_of_interest(best[:, 0].contiguous().view(rough.dtype).float(), error, rough.dtype)
        places = reaching(scores, floor[:, None], mask)
        limit -= len(places)
        if limit < 0:
            return None
        # Both in one number: it is sorted in one go, and takes half the memory.
        found.append((((places // size) << 32) | (places % size + begin), scores.view(-1)[places]))
    pairs, score = (torch.cat(parts) for parts in zip(*found, strict=True))
    pairs = ascending(pairs[score >= floor[pairs >> 32]])
    return pairs >> 32, pairs & 0xFFFFFFFF


def group_maxima(values: "torch.Tensor", together: int) -> "list[torch.Tensor]":
    """The largest of each group of so many columns, and the columns that are left over."""
    grouped = values.shape[1] // together * together
    return [values[:, :grouped].view(len(values), together, -1).amax(dim=1), values[:, grouped:]]


def lowest_of_interest(kth: "torch.Tensor", error: "torch.Tensor", kind: "torch.dtype") -> "torch.Tensor":
    """The bits of the first-pass score below which nothing can be among the k nearest.

    Args:
        kth: the k-th largest of those found so far, float32, shape (queries,).
        error: see `error_bound`.
        kind: precision of the first pass.
    """
    import torch

    floor: torch.Tensor = kth - 2 * error
    if kind is torch.bfloat16:
        # What was a little below the k-th may have been rounded down, and that one up, and now the floor up.
        floor = floor - 3 * BFLOAT_ROUNDING * floor.abs().maximum(kth.abs())
    # Bits of numbers below zero have the opposite order (minus zero's are the least): where these count, nothing is
    # left out. Their maximum is one of them all the same, so that the k-th of the maxima is never too high.
    return as_bits(torch.where(floor > 0, floor, -0.0).to(kind))


def as_bits(values: "torch.Tensor") -> "torch.Tensor":
    """The same memory as whole numbers, which have the order of the numbers where these are not negative."""
    import torch

    return values.view(torch.int16 if values.dtype is torch.bfloat16 else torch.int32)


def reaching(values: "torch.Tensor", floor: "torch.Tensor", mask: np.ndarray | None) -> "torch.Tensor":
    """Where values, laid out as one row, are at least the floor that stands beside them: int64.

    Args:
        values, floor: of shapes that broadcast together.
        mask: memory to work in on the processor: bytes, as many as values or more, a multiple of eight.
    """
    import torch

    if mask is None:
        return (values >= floor).flatten().nonzero()[:, 0]
    # numpy compares four times as fast as torch. Few are found, and most eights have none.
    size = values.numel()
    np.greater_equal(values.numpy(), floor.numpy(), out=mask[:size].reshape(values.shape))
    mask[size : size + -size % 8] = False
    eights = np.flatnonzero(mask[: size + -size % 8].view(np.uint64) != 0)
    places = np.flatnonzero(mask.reshape(-1, 8)[eights])
    return torch.from_numpy(eights[places >> 3] * 8 + (places & 7))


def ascending(values: "torch.Tensor") -> "torch.Tensor":
    """Whole numbers, each row sorted."""
    import torch

    if values.device.type == "cpu":  # numpy sorts ten times as fast as torch
        return torch.from_numpy(np.sort(values.numpy(), axis=-1))
    return values.sort(dim=-1).values


def k_largest(values: "torch.Tensor", k: int) -> "torch.Tensor":
    """The k largest of each row; the smallest of them first, the others in any order."""
    import torch

    if values.device.type == "cpu":  # numpy selects six times as fast as torch
        return torch.from_numpy(np.partition(values.numpy(), -k, axis=1)[:, -k:])
    return torch.topk(values, k, dim=1).values.flip(1)


def best_of_each(
    scores: "torch.Tensor", places: "torch.Tensor", bounds: "torch.Tensor", k: int
) -> "tuple[torch.Tensor, torch.Tensor]":
    """The k best of each query's candidates, best first, of equal ones the first place; each has k or more.

    Args:
        scores, places: of all candidates, one query after another.
        bounds: where each query's candidates begin, and where the last one's end.
        k: see there.
    """
    import torch

    # One whole number for score and place: sorting it is the fastest way to sort both.
    bits = scores.view(torch.int32).long()
    ordered = torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits)  # floats as integers of the same order
    keys = (ordered << 32) | (0xFFFFFFFF - places)
    counts = bounds.diff()
    width = int(counts.max())
    step = max(1, SORTED_NUMBERS // width)
    kept = torch.empty((len(counts), k), dtype=torch.int64, device=keys.device)
    for begin in range(0, len(counts), step):
        part = counts[begin : begin + step]
        padded = torch.full((len(part), width), torch.iinfo(torch.int64).min, device=keys.device)
        columns = torch.arange(width, device=keys.device)
        padded[columns < part[:, None]] = keys[bounds[begin] : bounds[begin + len(part)]]
        kept[begin : begin + step] = ascending(padded)[:, -k:].flip(1)
    bits = kept >> 32
    bits = torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits)
    return bits.int().view(torch.float32), 0xFFFFFFFF - (kept & 0xFFFFFFFF)


def search_all(queries: "torch.Tensor", passages: Searched, k: int) -> "tuple[torch.Tensor, torch.Tensor]":
    """The k nearest by float32 products with everything; of equal scores any."""
    import torch

    scores = torch.empty((len(queries), 0), device=queries.device)
    places = torch.empty((len(queries), 0), dtype=torch.int64, device=queries.device)
    for begin in range(0, passages.count, PASSAGE_BLOCK):
        new = queries @ passages.block(begin).T
        best = torch.topk(new, min(k, new.shape[1]), dim=1)
        both = torch.cat([scores, best.values], dim=1)
        kept = torch.topk(both, min(k, both.shape[1]), dim=1)
        places = torch.cat([places, best.indices + begin], dim=1).gather(1, kept.indices)
        scores = kept.values
    return scores, places
