"""A scale and a bias for each class logit."""

from typing import TYPE_CHECKING

from sensai.ensemble.combiners import COMBINERS

if TYPE_CHECKING:
    import numpy as np


@COMBINERS.register("vector", "a scale and a bias for each class logit", weights=lambda classes, outputs: classes)
def vector(outputs: "np.ndarray", contrasts: "np.ndarray", labels: "np.ndarray") -> tuple["np.ndarray", "np.ndarray"]:
    """Return the scales and biases of least negative log likelihood, which is convex in both (Guo et al. 2017)."""
    import numpy as np
    from scipy.optimize import minimize
    from scipy.special import softmax

    from sensai.ensemble.combiners.temperature_scaling import temperature
    from sensai.ensemble.likelihood import negative_log_likelihood, softened

    # From the best temperature on, so that all scales are near 1.
    weight, bias = temperature(outputs, contrasts, labels)
    logits, targets = outputs @ weight.T, softened(labels, len(contrasts))

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        scale, shift = np.split(parameters, 2)
        scores = scale * logits + shift
        residuals = (softmax(scores, axis=1) - targets) / len(labels)
        gradient = np.concatenate([(residuals * logits).sum(0), residuals.sum(0)])
        return negative_log_likelihood(scores, targets), gradient

    start = np.concatenate([np.ones_like(bias), bias])
    options = {"ftol": 1e-12, "gtol": 1e-7, "maxiter": 2000}
    scale, shift = np.split(minimize(loss, start, jac=True, method="L-BFGS-B", options=options).x, 2)
    return scale[:, None] * weight, shift
