"""The members' own scores, normalised."""

from sensai.ensemble.combiners import COMBINERS


@COMBINERS.register("raw", "not fitted", per_class=False)
def raw_scores() -> None:
    """Fit nothing: `sensai.ensemble.combine` says what the scores are."""
