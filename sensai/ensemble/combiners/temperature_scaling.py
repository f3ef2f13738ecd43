"""One scale for all class logits."""

from typing import TYPE_CHECKING

from sensai.ensemble.combiners import COMBINERS

if TYPE_CHECKING:
    import numpy as np

# Of log(1 / T): far beyond what a network's logits need.
_BOUND = 10.0


@COMBINERS.register(
    "temperature", "one scale for all class logits", weights=lambda classes, outputs: 1, per_class=False
)
def temperature(
    outputs: "np.ndarray", contrasts: "np.ndarray", labels: "np.ndarray"
) -> tuple["np.ndarray", "np.ndarray"]:
    """Return the temperature of least negative log likelihood, which is convex in 1 / T (Guo et al. 2017)."""
    import numpy as np
    from scipy.optimize import minimize_scalar

    from sensai.ensemble.likelihood import negative_log_likelihood, softened

    logits, targets = outputs @ contrasts.T, softened(labels, len(contrasts))

    def loss(log_inverse: float) -> float:
        return negative_log_likelihood(np.exp(log_inverse) * logits, targets)

    inverse = np.exp(minimize_scalar(loss, bounds=(-_BOUND, _BOUND), method="bounded", options={"xatol": 1e-8}).x)
    return inverse * contrasts, np.zeros(len(contrasts))
