"""A job with a progress bar, for parallel processes."""

from tqdm import tqdm


def counted(number: int) -> int:
    return sum(1 for _ in tqdm(range(number)))
