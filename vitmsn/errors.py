"""Every error this package raises on purpose.

ViTMSNError
├── ConfigError        a configuration that describes no possible network
├── CheckpointError    a file or folder that cannot be loaded faithfully
│   ├── MissingHeadError   a classifier or prototypes that the checkpoint does not have
│   └── ChangedModelError  a model that a pickle refers to, and that is another one by now
├── InputError         tensors, sizes or options that the model cannot take
├── ImageError         bytes that are not a picture we can decode safely
├── ArchiveError       a zip that is damaged, hostile or too large
├── DataError          a data set that cannot be read
├── MissingPackageError  a package that is installed only by those who need it, and is not here
├── GalleryError       labelled examples that cannot be kept, moved or opened
├── ExportError        a model that cannot be written in another form, or sent
└── FewShotError       too little, or contradictory, to learn from

All of them are ``ValueError`` as well, so that ``except ValueError`` works, in scikit-learn too. A message is
one sentence that says what came, what is needed and what to do; the app shows it to visitors as it is.
"""

from __future__ import annotations


class ViTMSNError(ValueError):
    """Base of all errors raised on purpose by this package."""


class ConfigError(ViTMSNError):
    """A configuration that describes no possible network."""


class CheckpointError(ViTMSNError):
    """A checkpoint that cannot be loaded faithfully: missing, unknown, mis-shaped, damaged or unsafe."""


class MissingHeadError(CheckpointError):
    """A trained head is needed, and the checkpoint has only a backbone."""


class ChangedModelError(CheckpointError):
    """A pickle refers to a model that is gone, or is another one by now."""


class InputError(ViTMSNError):
    """Tensors, sizes, masks or options that the model cannot take."""


class ImageError(ViTMSNError):
    """Bytes that are not a picture we can decode safely."""


class ArchiveError(ViTMSNError):
    """A zip that is damaged, hostile or too large."""


class DataError(ViTMSNError):
    """A data set that cannot be read."""


class MissingPackageError(ViTMSNError, ImportError):
    """A package of an extra is not installed; the message has the command that installs it."""


class GalleryError(ViTMSNError):
    """Labelled examples that cannot be kept, moved or opened."""


class FewShotError(ViTMSNError):
    """Examples that are too few or contradict each other."""


class ExportError(ViTMSNError):
    """A model that cannot be written in another form, or sent to the Hub."""
