"""How often each class occurs in each image of a split."""

from collections.abc import Iterable

import numpy as np
from scipy.sparse import csr_array


def class_counts(labels: Iterable[np.ndarray], num_classes: int) -> csr_array:
    """(n, K) int64: how many labels of each image are of each class.

    Args:
        labels: of each image, of any shape and at least 0; those beyond the classes, as IGNORE, are left out.
    """
    columns, counts, ends = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], [0]
    for of_image in labels:
        found = np.bincount(of_image.ravel(), minlength=num_classes)[:num_classes]
        columns.append(np.flatnonzero(found))
        counts.append(found[columns[-1]])
        ends.append(ends[-1] + len(columns[-1]))
    return csr_array((np.concatenate(counts), np.concatenate(columns), ends), shape=(len(ends) - 1, num_classes))
