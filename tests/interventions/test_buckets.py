import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmhealth.interventions import BucketNormalizer

rows = st.lists(
    st.tuples(st.floats(0.1, 10), st.booleans(), st.sampled_from("abc")), min_size=1, max_size=50
)


def columns(rows):
    advantage = np.array([a if up else -a for a, up, _ in rows])
    return advantage, np.array([bucket for _, _, bucket in rows])


@given(rows)
def test_every_bucket_gets_unit_second_moment(rows):
    advantage, bucket = columns(rows)
    got = BucketNormalizer(decay=0.0).normalise(advantage, bucket)
    for name in set(bucket):
        assert np.mean(got[bucket == name] ** 2) == pytest.approx(1)
    assert (np.sign(got) == np.sign(advantage)).all()


@given(rows)
def test_an_equal_share_whatever_the_number_of_rows(rows):
    advantage, bucket = columns(rows)
    got = BucketNormalizer(decay=0.0, equal_share=True).normalise(advantage, bucket)
    names = sorted(set(bucket))
    shares = [np.sum(got[bucket == name] ** 2) for name in names]
    np.testing.assert_allclose(shares, len(rows) / len(names))


def test_capability_and_modality_are_the_same_code_with_other_labels():
    advantage = np.array([1.0, -1.0, 6.0, -6.0])
    capability, modality = ["code", "code", "code", "code"], ["text", "text", "image", "image"]
    by_capability = BucketNormalizer().normalise(advantage, capability)
    by_modality = BucketNormalizer().normalise(advantage, modality)
    assert np.abs(by_capability[2] / by_capability[0]) == pytest.approx(6)
    assert np.abs(by_modality).tolist() == [1, 1, 1, 1]


def test_the_past_counts_with_its_decay():
    normalizer = BucketNormalizer(decay=0.5)
    normalizer.normalise([3.0, -3.0], ["a", "a"])
    got = normalizer.normalise([1.0, -1.0, 0.0], ["a", "a", "b"])
    assert got.tolist() == pytest.approx([1 / np.sqrt(11 / 3), -1 / np.sqrt(11 / 3), 0])


def test_rows_that_are_not_observed_teach_nothing():
    normalizer = BucketNormalizer(decay=0.5)
    got = normalizer.normalise([2.0, 40.0], ["a", "a"], observed=np.array([True, False]))
    assert got.tolist() == [1, 20]
