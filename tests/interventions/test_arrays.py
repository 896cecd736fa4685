import numpy as np
import pytest
import torch

from mmhealth.interventions.arrays import labels, mask, vector


@pytest.mark.parametrize(
    "values",
    [
        [1, 2],
        np.array([1, 2], np.int8),
        torch.tensor([1.0, 2.0], requires_grad=True),
        torch.tensor([1.0, 2.0], dtype=torch.bfloat16),
    ],
)
def test_a_vector_may_be_a_list_an_array_or_a_tensor(values):
    taken = vector(values, "x", 2)
    assert taken.dtype == np.float64
    assert taken.tolist() == [1, 2]


@pytest.mark.parametrize(
    "values", [[1, np.nan], [1, np.inf], [[1, 2]], [1], ["a", "b"], np.array([1, None])]
)
def test_other_vectors_are_refused_by_name(values):
    with pytest.raises(ValueError, match="reward"):
        vector(values, "reward", 2)


def test_nan_passes_only_where_it_means_pending():
    assert np.isnan(vector([np.nan, 1], "x", pending=True)[0])


@pytest.mark.parametrize("values", [["b", "a", "b"], np.array(["b", "a", "b"]), ("b", "a", "b")])
def test_labels_are_sorted_text(values):
    names, index = labels(values, "source", 3)
    assert names == ["a", "b"]
    assert index.tolist() == [1, 0, 1]


def test_whole_numbers_are_labels_too():
    assert labels(torch.tensor([3, 3, 10]), "source", 3)[0] == ["10", "3"]


@pytest.mark.parametrize("values", [["a", None], ["a", np.nan], ["a"], [["a", "b"], ["a", "b"]]])
def test_missing_labels_are_refused(values):
    with pytest.raises(ValueError, match="source"):
        labels(values, "source", 2)


def test_a_mask_is_boolean():
    assert mask(None, "observed", 2).all()
    with pytest.raises(ValueError, match="observed"):
        mask([1, 0], "observed", 2)
