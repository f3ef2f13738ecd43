"""A weight for each member and a bias for each class."""

from typing import TYPE_CHECKING

from sensai.ensemble.combiners import COMBINERS

if TYPE_CHECKING:
    import numpy as np


@COMBINERS.register(
    "log_linear",
    "a weight for each member and a bias for each class",
    weights=lambda classes, outputs: classes + outputs,
    shared=True,
)
def log_linear(
    outputs: "np.ndarray", contrasts: "np.ndarray", labels: "np.ndarray", owners: "np.ndarray"
) -> tuple["np.ndarray", "np.ndarray"]:
    """Return the log-linear pool of least negative log likelihood (Genest and Zidek 1986): convex in weights and biases.

    A class gets the weighted sum of what the members that have it say of it.
    """
    import numpy as np
    from scipy.optimize import minimize
    from scipy.sparse import csr_array
    from scipy.special import softmax

    from sensai.ensemble.combiners.temperature_scaling import temperature
    from sensai.ensemble.likelihood import negative_log_likelihood, softened

    # From the best temperature on, so that all weights are near 1.
    start, bias = temperature(outputs, contrasts, labels)
    # An output concerns the classes of its member alone, so with 1000 classes nearly all entries are zero.
    sparse, targets, members = csr_array(start), softened(labels, len(contrasts)), owners.max() + 1

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        weights, shift = parameters[:members], parameters[members:]
        scores = (outputs * weights[owners]) @ sparse.T + shift
        residuals = (softmax(scores, axis=1) - targets) / len(labels)
        of_outputs = ((residuals @ sparse) * outputs).sum(0)
        gradient = np.concatenate([np.bincount(owners, of_outputs, members), residuals.sum(0)])
        return negative_log_likelihood(scores, targets), gradient

    options = {"ftol": 1e-12, "gtol": 1e-7, "maxiter": 2000}
    found = minimize(loss, np.concatenate([np.ones(members), bias]), jac=True, method="L-BFGS-B", options=options).x
    return found[:members][owners] * start, found[members:]
