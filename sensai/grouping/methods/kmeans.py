"""Clusters of the classes' statistics."""

from typing import TYPE_CHECKING

from sensai.grouping.methods import METHODS

if TYPE_CHECKING:
    import numpy as np

    from sensai.activations import Statistics
    from sensai.grouping.partitions import Group


@METHODS.register("kmeans", "balanced k-means on the standardised APoZ and mean activation of every channel")
def kmeans(statistics: "Statistics", n_groups: int, seed: int) -> "list[Group]":
    """Return balanced clusters of the standardised APoZ and means of all channels."""
    from sklearn.decomposition import KernelPCA

    from sensai.grouping.balanced_kmeans import balanced_kmeans
    from sensai.grouping.partitions import groups_of

    points = _standardised(statistics)
    if points.shape[1] > len(points):
        # K points keep their distances in fewer than K dimensions, where each distance takes less time.
        points = KernelPCA(len(points) - 1, kernel="linear", eigen_solver="dense").fit_transform(points)
    return groups_of(balanced_kmeans(points, n_groups, seed))


def _standardised(statistics: "Statistics") -> "np.ndarray":
    """Return float32 (K, D): APoZ and mean of every channel, standardised over the classes; 0 for a class without images."""
    import numpy as np
    from sklearn.preprocessing import StandardScaler

    columns = []
    for site in statistics.values():
        elements = np.where(site.elements, site.elements, np.nan)[:, None]
        columns += [(site.zeros / elements).astype(np.float32), (site.magnitude / elements).astype(np.float32)]
    return np.nan_to_num(StandardScaler(copy=False).fit_transform(np.concatenate(columns, axis=1)), copy=False)
