"""An encoder as a transformer of scikit-learn, for pipelines, searches and parallel jobs.

    pipeline = make_pipeline(Encoder.from_pretrained(None), KNNClassifier())
    pipeline.fit(["cat1.jpg", "dog1.jpg", ...], ["cat", "dog", ...]).predict(["who.jpg"])
    GridSearchCV(pipeline, {"encoder__layernorm": [True, False], "knnclassifier__n_neighbors": [1, 5]})

There is nothing to fit: the weights are frozen. scikit-learn itself is imported only where it asks for its tags.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from vitmsn.errors import InputError

if TYPE_CHECKING:
    from sklearn.utils import Tags

    Own = TypeVar("Own", bound="PictureTransformer")

SETTINGS: dict[str, Any] = {"size": None, "layernorm": True, "batch_size": None}  # of Encoder.embed
CONTAINERS = (None, "default", "pandas")


class PictureTransformer(ABC):
    """What scikit-learn expects of a transformer, on top of ``embed``.

    Its parameters are options of ``embed``: ``size``, ``layernorm`` and ``batch_size``.
    """

    def __init__(self) -> None:
        self._settings = dict(SETTINGS)
        self._container: str | None = None

    @abstractmethod
    def embed(self, *images: Any, **options: Any) -> np.ndarray:
        """Pictures -> (N, D) float32."""

    @property
    @abstractmethod
    def width(self) -> int:
        """D, the numbers of an embedding."""

    def fit(self: Own, X: Any, y: Any = None) -> Own:
        """Nothing to learn; returns itself."""
        return self

    def transform(self, X: Any) -> Any:
        """Pictures -> their embeddings (N, D) float32, with the options that ``set_params`` set.

        X: a list or a column (N,) or (N, 1) of paths, PIL pictures, encoded bytes or arrays; or uint8 (N, height,
        width, channels).

        Raises:
            ImageError, InputError: a picture or an option that cannot be taken, named.
        """
        rows = self.embed(_column(X), **self._settings)
        if self._container != "pandas":
            return rows
        import pandas

        return pandas.DataFrame(
            rows, columns=self.get_feature_names_out(), index=X.index if hasattr(X, "iloc") else None
        )

    def fit_transform(self, X: Any, y: Any = None) -> Any:
        """``transform``, since there is nothing to fit."""
        return self.fit(X, y).transform(X)

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """The names of the embedding's numbers: encoder0, encoder1, ..."""
        return np.array([f"encoder{place}" for place in range(self.width)], dtype=object)

    def set_output(self: Own, *, transform: str | None = None) -> Own:
        """Whether ``transform`` gives an array ("default") or a data frame ("pandas"); None leaves it as it is."""
        if transform not in CONTAINERS:
            raise InputError(f"transform={transform!r} came; choose 'default' or 'pandas'.")
        self._container = transform or self._container
        return self

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The options of ``transform`` by name."""
        return dict(self._settings)

    def set_params(self: Own, **params: Any) -> Own:
        """Change options of ``transform``; returns itself.

        Raises:
            InputError: an option that does not exist.
        """
        if unknown := [name for name in params if name not in SETTINGS]:
            raise InputError(f"{type(self).__name__} has no {unknown[0]!r} to set; it has {', '.join(SETTINGS)}.")
        self._settings |= params
        return self

    def __sklearn_clone__(self: Own) -> Own:
        """The same frozen weights, lock and cache, with options of its own; so a search embeds each picture once."""
        twin = object.__new__(type(self))
        twin.__dict__ = self.__dict__ | {"_settings": dict(self._settings)}
        return twin

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def __sklearn_tags__(self) -> Tags:
        from sklearn.utils import InputTags, Tags, TargetTags, TransformerTags

        return Tags(
            estimator_type="transformer",
            target_tags=TargetTags(required=False),
            transformer_tags=TransformerTags(preserves_dtype=[]),
            input_tags=InputTags(two_d_array=False, string=True),
            requires_fit=False,
            no_validation=True,  # pictures are no rows of numbers
        )


def _column(X: Any) -> Any:
    """A column of a table or of an array of objects as a list; anything else as it is."""
    if getattr(X, "ndim", 0) == 2 and hasattr(X, "iloc"):  # a data frame
        X = X.to_numpy()
    if not isinstance(X, np.ndarray) or X.dtype.kind not in "OUST":
        return X
    if X.ndim > 2 or (X.ndim == 2 and X.shape[1] != 1):
        raise InputError(f"Pictures came as an array of shape {X.shape}; one column of them is needed, (N,) or (N, 1).")
    return X.ravel().tolist()
