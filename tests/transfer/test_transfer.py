import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_spot import prompts as prompt_store
from keras_spot import transfer
from keras_spot.prompts import similarity


def cosine(a, b):
    dot, lengths = 0.0, [0.0, 0.0]
    for x, y in zip(a, b):
        dot += x * y
        lengths[0] += x * x
        lengths[1] += y * y
    return dot / math.sqrt(lengths[0] * lengths[1]) if min(lengths) > 0 else 0.0


def average_token_cosine(query, prompt):
    def mean(rows):
        return [sum(column) / len(rows) for column in zip(*rows)]

    return cosine(mean(query), mean(prompt))


def per_token_cosine(query, prompt):
    return sum(cosine(a, b) for a in query for b in prompt) / (len(query) * len(prompt))


def max_inner_product(query, prompt):
    return sum(max(cosine(a, b) for a in query) for b in prompt) / len(prompt)


LOOPS = {
    "average_token_cosine": average_token_cosine,
    "per_token_cosine": per_token_cosine,
    "max_inner_product": max_inner_product,
}
SHAPES = st.tuples(*[st.integers(1, 5)] * 4)


@pytest.mark.parametrize("by", LOOPS)
@given(shape=SHAPES, seed=st.integers(0, 1000), scale=st.sampled_from([1e-3, 1.0, 1e3]))
@settings(max_examples=30, deadline=None)
def test_similarities_equal_plain_loops(by, shape, seed, scale):
    n, p, q, h = shape
    rng = np.random.default_rng(seed)
    query = (scale * rng.normal(size=(p, h))).astype("float32")
    prompts = rng.normal(size=(n, q, h)).astype("float32")
    prompts[0, 0] = 0.0  # a token of zeros has the cosine 0 with everything
    actual = transfer.similarities(query, prompts, by)
    expected = [LOOPS[by](query.tolist(), prompt.tolist()) for prompt in prompts]
    np.testing.assert_allclose(actual, expected, atol=2e-6)
    assert actual.dtype == np.float64


@pytest.mark.parametrize("by", LOOPS)
def test_similarity_knows_directions_and_no_positions(by):
    rng = np.random.default_rng(0)
    prompt = rng.normal(size=(6, 9)).astype("float32")
    function = transfer.similarity(by)
    actual = function(prompt, np.stack([prompt, prompt[::-1], 8 * prompt, -prompt]))
    np.testing.assert_allclose(actual[1:3], actual[0], atol=1e-6)
    assert actual[3] < actual[0]
    if by != "per_token_cosine":  # whose pairs are all pairs, a token's with itself among others
        assert actual[0] == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("by", LOOPS)
def test_blocks_change_nothing(by, monkeypatch):
    rng = np.random.default_rng(1)
    query, prompts = rng.normal(size=(3, 4)), rng.normal(size=(7, 5, 4))
    whole = transfer.similarities(query, prompts, by)
    monkeypatch.setattr(similarity, "_BLOCK", 41)  # two prompts
    np.testing.assert_allclose(transfer.similarities(query, prompts, by), whole, atol=1e-7)


def test_a_summary_is_all_that_a_cosine_needs():
    rng = np.random.default_rng(2)
    query, prompts = rng.normal(size=(3, 4)), rng.normal(size=(7, 5, 4))
    for name, summary in transfer.SUMMARIES.items():
        expected = summary(prompts) @ summary(query[None])[0]
        np.testing.assert_array_equal(transfer.similarities(query, prompts, name), expected)


def test_the_released_prompts(shared):
    """REFERENCE's figures, and two of our own by the plain loops above."""
    folder = shared / "data/prompts/t5_1_1_lm100k_base"
    prompts = {name: prompt_store.read(folder / f"{name}.npy").values for name in ("sst2", "mrpc")}
    rte = prompt_store.read(folder / "rte.npy").values
    prompts["rte"] = rte

    def mean_cosine(a, b):
        return transfer.average_token_cosine(prompts[a], prompts[b][None])[0].round(3)

    assert mean_cosine("sst2", "rte") == 0.518
    assert mean_cosine("sst2", "mrpc") == 0.496
    assert mean_cosine("mrpc", "rte") == 0.565
    assert transfer.rank(rte, prompts)[0][0] == "rte"
    a, b = prompts["sst2"][:20], prompts["mrpc"][:15]
    for by, loop in LOOPS.items():
        actual = transfer.similarities(a, b[None], by)[0]
        assert actual == pytest.approx(loop(a.tolist(), b.tolist()), abs=1e-6)


def test_ranking_by_name_position_and_ones_own_function():
    query = np.array([[1.0, 0.0]])
    prompts = {"across": [[0.0, 2.0]], "along": [[3.0, 0.0]], "also": [[0.0, 1.0], [0.0, -1.0]]}
    assert transfer.rank(query, prompts) == [("along", 1.0), ("across", 0.0), ("also", 0.0)]
    assert transfer.rank(query, list(prompts.values()))[0] == (1, 1.0)

    def shortest(query, prompts):
        return -np.linalg.norm(prompts, axis=2).mean(axis=1)

    assert transfer.rank(query, prompts, by=shortest)[0] == ("also", -1.0)


BAD_SIMILARITIES = {
    "`by` must be a known name. Received: by='per_token' (did you mean 'per_token_cosine'?)": (
        np.ones((2, 3)),
        np.ones((1, 2, 3)),
        "per_token",
    ),
    "`query` must have the shape [P, H]. Received: shape=(3,)": (
        np.ones(3),
        np.ones((1, 2, 3)),
        "per_token_cosine",
    ),
    "`prompts` must have the shape [N, Q, H]. Received: shape=(2, 3)": (
        np.ones((2, 3)),
        np.ones((2, 3)),
        "per_token_cosine",
    ),
    "`prompts` must have the shape [N, Q, H]. Received: shape=(0, 2, 3)": (
        np.ones((2, 3)),
        np.ones((0, 2, 3)),
        "per_token_cosine",
    ),
    "`prompts` must have the query's width 3. Received: shape=(1, 2, 4)": (
        np.ones((2, 3)),
        np.ones((1, 2, 4)),
        "max_inner_product",
    ),
    "`by` must give one finite number for each of the 2 prompts. Received: shape=(), 1.0": (
        np.ones((2, 3)),
        np.ones((2, 2, 3)),
        lambda query, prompts: 1.0,
    ),
    "`by` must give one finite number for each of the 1 prompts. Received: shape=(1,), [nan]": (
        np.ones((2, 3)),
        np.ones((1, 2, 3)),
        lambda query, prompts: [math.nan],
    ),
}


@pytest.mark.parametrize("message", BAD_SIMILARITIES)
def test_what_cannot_be_compared(message):
    query, prompts, by = BAD_SIMILARITIES[message]
    with pytest.raises(ValueError) as error:
        transfer.similarities(query, prompts, by)
    assert str(error.value) == message


def test_a_prompt_of_another_rank_is_not_ranked():
    with pytest.raises(ValueError) as error:
        transfer.rank(np.ones((2, 3)), [np.ones(3)])
    assert str(error.value) == "`prompts` must have the shape [Q, H] each. Received: shape=(3,)"


def test_weights_are_normalised():
    prompts = np.random.default_rng(0).normal(size=(3, 4, 5)).astype("float32")
    actual = transfer.average(prompts, [1, 2, 5])
    expected = (prompts[0] + 2 * prompts[1] + 5 * prompts[2]) / 8
    np.testing.assert_allclose(actual, expected, atol=1e-6)
    np.testing.assert_allclose(transfer.average(prompts), prompts.mean(0), atol=1e-6)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1], "`weights` must be one non-negative number a prompt. Received: weights=[1]"),
        ([1, -1], "`weights` must be one non-negative number a prompt. Received: weights=[1, -1]"),
        ([0, 0], "`weights` must not all be zero. Received: weights=[0, 0]"),
    ],
)
def test_weights_that_cannot_be(weights, message):
    with pytest.raises(ValueError) as error:
        transfer.average(np.ones((2, 1, 1)), weights)
    assert str(error.value) == message


def test_task_vectors_lead_from_the_initial_to_the_trained_prompt():
    initial, a, b = np.random.default_rng(3).normal(size=(3, 4, 5)).astype("float32")
    vectors = [transfer.task_vector(a, initial), transfer.task_vector(b, initial)]
    np.testing.assert_allclose(transfer.add_task_vectors(initial, vectors[:1]), a, atol=1e-6)
    actual = transfer.add_task_vectors(initial, vectors, [0.25, 0.75])
    np.testing.assert_allclose(actual, 0.25 * a + 0.75 * b, atol=1e-6)
    assert actual.dtype == np.float32
    away = transfer.add_task_vectors(initial, vectors[:1], [-1])
    np.testing.assert_allclose(away, 2 * initial - a, atol=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: transfer.task_vector(np.ones((1, 2)), np.ones((1, 3))),
            "`trained` must have one shape. Received: (1, 2), (1, 3)",
        ),
        (
            lambda: transfer.add_task_vectors(np.ones((1, 2)), []),
            "`vectors` must hold at least one prompt. Received: none",
        ),
        (
            lambda: transfer.add_task_vectors(np.ones((1, 2)), [np.ones((2, 2))]),
            "`initial` must have one shape. Received: (1, 2), (2, 2)",
        ),
        (
            lambda: transfer.add_task_vectors(np.ones((1, 2)), [np.ones((1, 2))], [1, 2]),
            "`weights` must be one finite number a vector. Received: weights=[1, 2]",
        ),
        (
            lambda: transfer.relative_error_reduction(100.0, 100.0),
            "`baseline` must be below 100. Received: baseline=100.0",
        ),
        (
            lambda: transfer.predict_gain([1, 2], [1, 2], 3),
            "`similarities` must be at least 3 numbers, as many as `gains`. "
            "Received: shapes (2,) and (2,)",
        ),
        (
            lambda: transfer.correlation([1, 2, 3], [1, 2, 3, 4]),
            "`similarities` must be at least 3 numbers, as many as `gains`. "
            "Received: shapes (3,) and (4,)",
        ),
        (
            lambda: transfer.predict_gain([1, 1, 1], [1, 2, 3], 3),
            "`similarities` must not all be equal. Received: similarities=[1, 1, 1]",
        ),
        (
            lambda: transfer.predict_gain([1, 2, 3], [1, 2, math.inf], 3),
            "`gains` must be finite. Received: gains=[ 1.  2. inf]",
        ),
        (
            lambda: transfer.predict_gain([1, 2, 3], [1, 2, 3], 3, level=95),
            "`level` must lie between 0 and 1. Received: level=95",
        ),
    ],
)
def test_arithmetic_that_cannot_be(call, message):
    with pytest.raises(ValueError) as error:
        call()
    assert str(error.value) == message


def test_the_published_relative_error_reductions():
    """REFERENCE section 3: MNLI helps CB, ReCoRD ruins it; the oracle of 48 prompts."""
    assert round(100 * transfer.relative_error_reduction(97.0, 92.7), 1) == 58.9
    actual = transfer.relative_error_reduction(np.array([97.0, 74.1]), 92.7)
    np.testing.assert_allclose(actual, [4.3 / 7.3, -18.6 / 7.3])
    assert round(100 * transfer.relative_error_reduction(80.7, 74.7), 1) == 23.7


@given(
    points=st.lists(
        st.tuples(st.floats(-1, 1), st.floats(-30, 30)),
        min_size=3,
        max_size=8,
        unique_by=lambda p: p[0],
    ),
    new=st.floats(-1, 1),
)
@settings(max_examples=50, deadline=None)
def test_the_regression_agrees_with_scipy_and_the_normal_equations(points, new):
    from scipy import stats

    x, y = np.array(points).T
    if np.ptp(x) < 1e-3:
        return
    actual = transfer.predict_gain(x, y, [new, 0.0], level=0.9)
    line = stats.linregress(x, y)
    assert actual.slope == pytest.approx(line.slope, rel=1e-6, abs=1e-6)
    assert actual.intercept == pytest.approx(line.intercept, rel=1e-6, abs=1e-6)
    design = np.stack([np.ones_like(x), x], axis=1)
    inverse = np.linalg.inv(design.T @ design)
    beta = inverse @ design.T @ y
    variance = ((y - design @ beta) ** 2).sum() / (len(x) - 2)
    for i, at in enumerate([new, 0.0]):
        row = np.array([1.0, at])
        error = math.sqrt(variance * (1 + row @ inverse @ row))
        assert actual.gain[i] == pytest.approx(row @ beta, rel=1e-5, abs=1e-5)
        assert actual.standard_error[i] == pytest.approx(error, rel=1e-5, abs=1e-5)
        reach = stats.t.ppf(0.95, len(x) - 2) * error
        assert actual.high[i] - actual.low[i] == pytest.approx(2 * reach, rel=1e-5, abs=1e-4)


def test_the_prediction_interval_holds_as_often_as_it_says():
    rng = np.random.default_rng(4)
    inside = 0
    for _ in range(2000):
        x, noise = rng.uniform(size=9), rng.normal(size=9)
        y = 2 * x + 1 + noise
        actual = transfer.predict_gain(x[:8], y[:8], x[8], level=0.8)
        inside += int(actual.low <= y[8] <= actual.high)
    assert abs(inside / 2000 - 0.8) < 0.03


def test_correlation_by_hand_and_where_there_is_none():
    x, y = [0.1, 0.4, 0.2, 0.9], [1.0, 2.0, 3.0, 4.0]
    r, p = transfer.correlation(x, y)
    dx, dy = np.array(x) - np.mean(x), np.array(y) - np.mean(y)
    expected = (dx * dy).sum() / math.sqrt((dx**2).sum() * (dy**2).sum())
    assert r == pytest.approx(expected)
    t = r * math.sqrt(2 / (1 - r * r))
    assert p == pytest.approx(1 - t / math.sqrt(2 + t * t))  # Student's t of 2 degrees of freedom
    assert all(map(math.isnan, transfer.correlation([1, 1, 1], [1, 2, 3])))
    assert all(map(math.isnan, transfer.correlation([1, 2, 3], [5, 5, 5])))
