"""Encoders as pickles: for joblib, multiprocessing, Ray, and pipelines that are kept.

An encoder that was opened from a folder, a file or the Hub is pickled as a reference to it, with a checksum: a few
hundred bytes. Where the pickle is opened, the model is read again on the device that was asked for ("auto" chooses
anew), and refused when it has changed since. Any other encoder is pickled with its weights.
"""

from __future__ import annotations

import copy
import hashlib
import json
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from vitmsn.errors import ChangedModelError, CheckpointError

Encoder = Any  # vitmsn.encoder.Encoder, which imports this

KEPT = 2  # models in memory that pickles of this process may share: each task of joblib opens its pipeline anew


@dataclass(frozen=True)
class Reference:
    """Where an encoder was opened, and how: what ``Encoder.from_pretrained`` takes to open it again.

    place: an absolute path, ``owner/name@commit`` of the Hub, or the name of an embedded model.
    """

    place: str
    device: str
    dtype: str
    backend: str = "auto"


_opened: OrderedDict[tuple[Any, Reference, str], Encoder] = OrderedDict()  # by class, too
_lock = threading.Lock()


def checksum(encoder: Encoder) -> str:
    """Hex digest of all that answers depend on: weights, preprocessing, heads, feature mean and card."""
    digest = hashlib.sha256(encoder.fingerprint.encode())
    about = [encoder.labels, encoder.problem_type, encoder.card, encoder.processor.to_dict()]
    digest.update(json.dumps(about, sort_keys=True).encode())
    for head in (encoder.classifier, encoder.msn_head):
        for key, tensor in sorted(head.state_dict().items()) if head is not None else ():
            digest.update(
                f"{key} {tuple(tensor.shape)}".encode() + tensor.detach().cpu().contiguous().numpy().tobytes()
            )
    if encoder.msn_head is not None:
        digest.update(f"{encoder.msn_head.temperature} {encoder.msn_head.sharpening}".encode())
    if encoder.feature_mean is not None:
        digest.update(encoder.feature_mean.tobytes())
    return digest.hexdigest()


def state(encoder: Encoder) -> dict[str, Any]:
    """What a pickle keeps of an encoder."""
    settings = {"settings": encoder.get_params(), "output": encoder._container, "name": encoder.name}
    if encoder.reference is not None:
        return {**settings, "reference": encoder.reference, "checksum": checksum(encoder)}
    return {**settings, "parts": parts(encoder), "fingerprint": encoder.fingerprint}


def parts(encoder: Encoder) -> dict[str, Any]:
    """Copies of an encoder's parts on the CPU: the arguments that make its equal, but for its device."""
    return {
        "model": copy.deepcopy(encoder.model).cpu().float(),
        "processor": encoder.processor,
        "name": encoder.name,
        "source": encoder.source,
        "classifier": copy.deepcopy(encoder.classifier),
        "msn_head": copy.deepcopy(encoder.msn_head),
        "feature_mean": copy.deepcopy(encoder.feature_mean),
        "card": copy.deepcopy(encoder.card),
        "device": str(encoder.device),
        "dtype": encoder.dtype,
        "backend": encoder.runner.asked_backend,
    }


def opened(kind: Any, kept: dict[str, Any]) -> Encoder:
    """The encoder of a pickle.

    Raises:
        ChangedModelError: what the pickle refers to is gone, or is another model by now.
    """
    if "reference" in kept:
        made = _by_reference(kind, kept)
    else:
        made = kind(**kept["parts"])
        made.fingerprint = kept["fingerprint"]  # of the weights before they were rounded to its dtype
    made.set_params(**kept["settings"]).set_output(transform=kept["output"])
    return made


def _by_reference(kind: Any, kept: dict[str, Any]) -> Encoder:
    reference, wanted = kept["reference"], kept["checksum"]
    with _lock:
        known = _opened.get((kind, reference, wanted))
        if known is None:
            try:
                known = kind.from_pretrained(
                    reference.place, device=reference.device, dtype=reference.dtype, backend=reference.backend
                )
            except CheckpointError as error:
                raise ChangedModelError(
                    f"This encoder was pickled as a reference to {reference.place}, which cannot be opened here "
                    f"({error}); put the model back, or pickle the encoder again."
                ) from error
            known.name = kept["name"]
            if checksum(known) != wanted:
                raise ChangedModelError(
                    f"{reference.place} has changed since this encoder was pickled as a reference to it; restore the "
                    "model, or pickle the encoder again."
                )
            _opened[kind, reference, wanted] = known
            while len(_opened) > KEPT:
                _opened.popitem(last=False)
        _opened.move_to_end((kind, reference, wanted))
    return known.__sklearn_clone__()
