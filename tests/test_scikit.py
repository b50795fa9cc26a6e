"""An encoder in scikit-learn: pipelines, searches, clones, data frames, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
from PIL import Image
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.utils import get_tags
from sklearn.utils.validation import check_is_fitted

from tests.support import models
from vitmsn.encoder import Encoder
from vitmsn.errors import ImageError, InputError
from vitmsn.fewshot import CentroidClassifier, KNNClassifier
from vitmsn.timing import timings

LABELS = ["dark", "light"] * 6


def array(seed: int) -> np.ndarray:
    """Odd seeds are light, even ones dark."""
    return np.random.default_rng(seed).integers(0, 100, (20, 24, 3), dtype=np.uint8) + np.uint8(150 * (seed % 2))


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("pictures")
    for seed in range(12):
        Image.fromarray(array(seed)).save(folder / f"{seed}.png")
    return [str(folder / f"{seed}.png") for seed in range(12)]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    return models.read(models.write(tmp_path_factory.mktemp("models") / "small", models.small()))


FORMS: dict[str, Callable[[list[str]], Any]] = {
    "paths": lambda paths: paths,
    "Path": lambda paths: [Path(path) for path in paths],
    "PIL": lambda _: [Image.fromarray(array(seed)) for seed in range(12)],
    "bytes": lambda paths: [Path(path).read_bytes() for path in paths],
    "arrays": lambda _: [array(seed) for seed in range(12)],
    "one array": lambda _: np.stack([array(seed) for seed in range(12)]),
    "array of paths": np.array,
    "column of paths": lambda paths: np.array(paths, dtype=object)[:, None],
    "series": pandas.Series,
    "frame": lambda paths: pandas.DataFrame({"file": paths}),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_pictures_gives_the_same_rows(encoder: Encoder, paths: list[str], form: str) -> None:
    expected = encoder.embed(paths)
    found = clone(encoder).fit_transform(FORMS[form](paths))
    assert found.shape == (12, 16) and found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_pipeline_learns_and_predicts(encoder: Encoder, paths: list[str]) -> None:
    pipeline = make_pipeline(encoder, KNNClassifier(1)).fit(paths[:8], LABELS[:8])
    assert pipeline.predict(paths[8:]).tolist() == LABELS[8:]
    assert pipeline.score(paths[8:], LABELS[8:]) == 1
    assert pipeline.decision_function(paths[8:]).shape == (4,)
    assert "Encoder" in pipeline._repr_html_() and repr(encoder) in repr(pipeline)
    check_is_fitted(encoder)
    assert pipeline[:1].get_feature_names_out().tolist() == [f"encoder{place}" for place in range(16)]


def test_a_search_over_options_and_encoders_finds_what_single_fits_find(encoder: Encoder, paths: list[str]) -> None:
    pipeline = make_pipeline(encoder, CentroidClassifier())
    grid = {"encoder__layernorm": [True, False], "encoder__size": [16, 32]}
    found = GridSearchCV(pipeline, grid, cv=2, error_score="raise").fit(paths, LABELS)
    for params, score in zip(found.cv_results_["params"], found.cv_results_["mean_test_score"], strict=True):
        alone = cross_val_score(clone(pipeline).set_params(**params), paths, LABELS, cv=2)
        assert alone.mean() == score
    assert encoder.get_params() == {"size": None, "layernorm": True, "batch_size": None}  # the search changed clones
    other = Encoder.random(models.small(), seed=1, device="cpu")
    both = GridSearchCV(pipeline, {"encoder": [encoder, other]}, cv=2, error_score="raise").fit(paths, LABELS)
    assert both.predict(paths[:2]).tolist() == LABELS[:2]


def test_two_processes_give_the_scores_of_one(encoder: Encoder, paths: list[str]) -> None:
    grid = {"encoder__layernorm": [True, False], "knnclassifier__n_neighbors": [1, 3]}
    pipeline = make_pipeline(encoder, KNNClassifier())
    one, two = (
        GridSearchCV(pipeline, grid, cv=2, n_jobs=jobs, error_score="raise").fit(paths, LABELS) for jobs in (1, 2)
    )
    np.testing.assert_array_equal(two.cv_results_["mean_test_score"], one.cv_results_["mean_test_score"])
    assert two.best_params_ == one.best_params_


def test_a_clone_shares_weights_and_cache_and_has_options_of_its_own(encoder: Encoder, paths: list[str]) -> None:
    encoder.transform(paths)
    twin = clone(encoder).set_params(layernorm=False)
    assert twin.model is encoder.model and twin is not encoder
    assert encoder.get_params()["layernorm"] is True
    np.testing.assert_array_equal(twin.transform(paths), encoder.embed(paths, layernorm=False))
    with timings() as forwards:
        clone(encoder).transform(paths)
    assert not forwards


def test_data_frames_in_and_out(encoder: Encoder, paths: list[str]) -> None:
    frame = pandas.DataFrame({"file": paths, "hour": range(12)}, index=[f"p{seed}" for seed in range(12)])
    twin = clone(encoder).set_output(transform="pandas")
    out = twin.transform(frame[["file"]])
    assert list(out.index) == list(frame.index) and list(out.columns[:2]) == ["encoder0", "encoder1"]
    columns = ColumnTransformer([("picture", encoder, "file"), ("rest", "passthrough", ["hour"])])
    assert columns.fit_transform(frame).shape == (12, 17)
    assert isinstance(clone(twin).set_output(transform="default").transform(paths), np.ndarray)


def test_tags_say_that_pictures_are_no_rows_of_numbers(encoder: Encoder) -> None:
    tags = get_tags(encoder)
    assert tags.no_validation and not tags.requires_fit and not tags.input_tags.two_d_array


def test_what_cannot_be_taken_is_named(encoder: Encoder, paths: list[str]) -> None:
    with pytest.raises(InputError, match="Encoder has no 'sise' to set; it has size, layernorm, batch_size"):
        encoder.set_params(sise=3)
    with pytest.raises(InputError, match="one column of them is needed"):
        encoder.transform(pandas.DataFrame({"a": paths, "b": paths}))
    with pytest.raises(InputError, match="'default' or 'pandas'"):
        encoder.set_output(transform="arrow")
    with pytest.raises(InputError, match="made of whole patches"):
        clone(encoder).set_params(size=17).transform(paths)
    with pytest.raises(ImageError, match=r"missing\.png"):
        encoder.transform(["missing.png"])
    assert encoder.transform([]).shape == (0, 16)
