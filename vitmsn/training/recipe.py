"""What decides a pre-training run, and the presets: the model that this project ships, and the paper's."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any

from vitmsn.checkpoint import Checkpoint
from vitmsn.config import VARIANTS, ViTMSNConfig, pair
from vitmsn.errors import ConfigError
from vitmsn.training import augment


@dataclass(frozen=True)
class Stage:
    """A stretch of the run at one resolution. Positions interpolate, so small views first see more pictures an hour."""

    share: float  # of all steps
    target: int  # side of the target's and the random anchors' views, pixels
    focal: int  # side of the focal views, pixels


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a run. The defaults are `tiny-8-64`, the first stage of the embedded model.

    Command:  python -m vitmsn pretrain tiny-8-64 --data DIR --out RUN
    Cost and result: in the card of that stage, assets/vit-msn-tiny-8-64-msn-only/README.md.

    The options at the end are details of the original code that are not in the paper; their defaults are the
    paper's, :meth:`as_original` sets them as the original has them.
    """

    # six layers see half as many pictures again in an hour as nine; distillation grows the other three
    model: ViTMSNConfig = field(default_factory=lambda: replace(VARIANTS["tiny-8-64"], num_hidden_layers=6))
    stages: tuple[Stage, ...] = (Stage(0.8, 32, 16), Stage(0.15, 48, 24), Stage(0.05, 64, 32))
    picture_size: int = 64  # side at which pictures are kept for cropping, pixels
    own_data: str = ""  # "digits" or "shapes", which come along; "": data must be given

    # views (section 4: one random and ten focal at 224 px; fewer focal ones pay at 64 px)
    random_views: int = 1
    focal_views: int = 4
    mask_ratio: float = 0.3
    target_scale: tuple[float, float] = (0.3, 1.0)
    focal_scale: tuple[float, float] = (0.05, 0.3)
    flip: float = 0.5  # probability; 0 where left and right mean something, as in writing
    color: float = 1.0  # how often there is color jitter, gray and blur, against the original's; 0: never

    # head
    prototypes: int = 512
    hidden: int = 512
    output: int = 128
    temperature: float = 0.1
    sharpening: float = 0.25

    # loss
    me_max_weight: float = 1.0
    entropy_weight: float = 0.0
    sinkhorn_iterations: int = 3  # 0: none

    # optimization
    epochs: float = 8.0
    batch_size: int = 256  # over all processes
    warmup_epochs: float = 0.3
    start_rate: float = 2e-4
    peak_rate: float = 1.5e-3
    end_rate: float = 1.5e-4
    weight_decay: tuple[float, float] = (0.04, 0.1)
    ema: tuple[float, float] = (0.99, 0.99)
    clip: float = 3.0
    freeze_backbone: bool = False  # train projector and prototypes alone; the backbone stays as it came
    seed: int = 0

    # details of the original code
    shared_mask: bool = False  # one random mask for the whole batch, rather than one for each picture
    clip_prototypes: bool = True  # they count in the clipped norm
    decay_prototypes: bool = False  # weight decay, which the paper does not say they have
    running_target: bool = False  # the target's BatchNorm uses running numbers, which follow as its weights do
    schedule_stretch: float = 1.0  # schedules are those of a run so much longer, and are cut off

    def __post_init__(self) -> None:
        patch = max(pair(self.model.patch_size))
        total = sum(stage.share for stage in self.stages)
        if abs(total - 1) > 1e-6:
            raise ConfigError(f"The shares of the stages sum to {total:g}; they must sum to 1.")
        for stage in self.stages:
            if stage.target < 1 or stage.focal < 1 or stage.target % patch or stage.focal % patch:
                raise ConfigError(
                    f"Views of {stage.target} and {stage.focal} pixels are not multiples of the patch, {patch}."
                )
        for name, low, high in _RANGES:
            value = getattr(self, name)
            for number in value if isinstance(value, tuple) else (value,):
                if not low <= number <= high:
                    raise ConfigError(f"{name} is {number:g}; between {low:g} and {high:g} is needed.")
        if not self.random_views and not self.focal_views:
            raise ConfigError("A run without random and focal views has nothing to learn from; give it at least one.")

    @property
    def target_view(self) -> augment.ViewRecipe:
        return self._view(self.target_scale)

    @property
    def focal_view(self) -> augment.ViewRecipe:
        return self._view(self.focal_scale)

    def _view(self, scale: tuple[float, float]) -> augment.ViewRecipe:
        """Its size comes from the stage."""
        jitter, gray, blur = (self.color * often for often in (0.8, 0.2, 0.5))
        return augment.ViewRecipe(size=0, scale=scale, flip=self.flip, jitter=jitter, gray=gray, blur=blur)

    def as_original(self) -> Recipe:
        """The same run with the details of the original code (facebookresearch/msn)."""
        return replace(self, shared_mask=True, clip_prototypes=False, schedule_stretch=1.25)

    def starting_from(self, init: Checkpoint) -> Recipe:
        """The same run on the architecture of a checkpoint, and on its MSN head where it has one."""
        parts = {"hidden": "projector.fc1.weight", "output": "projector.fc3.weight", "prototypes": "prototypes"}
        sizes: dict[str, Any] = {name: len(init.msn_head[part]) for name, part in parts.items() if init.msn_head}
        return replace(self, model=init.config, **sizes)

    def with_rate(self, peak_rate: float) -> Recipe:
        """Another peak rate; start and end keep their proportion to it."""
        rates = {name: getattr(self, name) for name in ("start_rate", "peak_rate", "end_rate")}
        changes: dict[str, Any] = {name: rate * peak_rate / self.peak_rate for name, rate in rates.items()}
        return replace(self, **changes)

    def with_settings(self, settings: dict[str, str]) -> Recipe:
        """A copy with fields set by name from text, as the command line gives them ("ema": "0.99,0.996").

        Raises:
            ConfigError: no such setting, or a value of another kind; what there is, is named.
        """
        return with_settings(self, settings)


def with_settings(recipe: Any, settings: dict[str, str]) -> Any:
    """A copy of a dataclass with its plain fields set from text; see :meth:`Recipe.with_settings`."""
    kinds = {f.name: value for f in fields(recipe) if isinstance(value := getattr(recipe, f.name), _PLAIN)}
    kinds = {name: value for name, value in kinds.items() if not isinstance(value, tuple) or _numbers(value)}
    changes: dict[str, Any] = {}
    for name, text in settings.items():
        if name not in kinds:
            raise ConfigError(f"There is no setting {name!r}; choose among {', '.join(sorted(kinds))}.")
        changes[name] = _parse(name, text, kinds[name])
    return replace(recipe, **changes)


_PLAIN = (bool, int, float, tuple)


def _numbers(value: tuple[Any, ...]) -> bool:
    return all(isinstance(part, int | float) for part in value)


_RANGES: tuple[tuple[str, float, float], ...] = (
    ("picture_size", 1, 4096),
    ("random_views", 0, 64),
    ("focal_views", 0, 64),
    ("mask_ratio", 0, 0.99),
    ("target_scale", 1e-3, 1),
    ("focal_scale", 1e-3, 1),
    ("flip", 0, 1),
    ("color", 0, 1),
    ("prototypes", 2, 1 << 20),
    ("hidden", 1, 1 << 16),
    ("output", 1, 1 << 16),
    ("temperature", 1e-4, 100),
    ("sharpening", 1e-4, 1),
    ("me_max_weight", 0, 1e4),
    ("entropy_weight", 0, 1e4),
    ("sinkhorn_iterations", 0, 100),
    ("epochs", 1e-9, 1e6),
    ("batch_size", 2, 1 << 20),
    ("warmup_epochs", 0, 1e6),
    ("weight_decay", 0, 10),
    ("ema", 0, 1),
    ("clip", 1e-6, 1e9),
    ("schedule_stretch", 1, 100),
)


def _parse(name: str, text: str, now: Any) -> Any:
    """Text as a value of the kind of ``now``."""
    try:
        if isinstance(now, bool):
            return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}[text.lower()]
        if isinstance(now, tuple):
            low, high = (float(part) for part in text.split(","))
            return low, high
        return type(now)(text)
    except (KeyError, ValueError) as error:
        kind = {bool: "true or false", tuple: "two numbers with a comma", int: "a whole number"}.get(
            type(now), "a number"
        )
        raise ConfigError(f"{name} is {text!r}; {kind} is needed.") from error


def _paper(variant: str, mask_ratio: float, epochs: float, focal: int = 96) -> Recipe:
    """Section 4 and appendix of arXiv 2204.07141: ImageNet at 224 pixels, batches of 1024 over all processes.

    Pictures are kept at 256 px, of which crops are made. The focal side is the nearest multiple of the patch to 96.
    """
    return Recipe(
        model=VARIANTS[variant],
        stages=(Stage(1.0, 224, focal),),
        picture_size=256,
        focal_views=10,
        mask_ratio=mask_ratio,
        prototypes=1024,
        hidden=2048,
        output=256,
        epochs=epochs,
        batch_size=1024,
        warmup_epochs=15,
        start_rate=2e-4,
        peak_rate=1e-3,
        end_rate=1e-6,
        weight_decay=(0.04, 0.4),
        ema=(0.996, 1.0),
    )


# Narrow networks start from wider weights than the usual 0.02, at which they never leave the uniform assignment; small
# batches, a low rate and an early end make it a minute's work. Writing has a left and a right: no flips.
_DIGITS = Recipe(
    model=ViTMSNConfig(
        hidden_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=128,
        image_size=16,
        patch_size=4,
        initializer_range=0.1,
    ),
    stages=(Stage(1.0, 16, 8),),
    picture_size=16,
    own_data="digits",
    target_scale=(0.5, 1.0),
    focal_scale=(0.2, 0.5),
    flip=0.0,
    prototypes=64,
    hidden=256,
    output=64,
    epochs=18,
    batch_size=64,
    warmup_epochs=1,
    start_rate=1.5e-4,
    peak_rate=1.5e-3,
    end_rate=1e-4,
    weight_decay=(0.04, 0.04),
    ema=(0.96, 0.99),
)

# Things in front of something else: crops may be smaller, a thing may be mirrored, and two masked views without focal
# ones see more pictures in a minute.
_SHAPES = replace(
    _DIGITS,
    model=replace(_DIGITS.model, image_size=32, patch_size=8),
    stages=(Stage(1.0, 32, 16),),
    picture_size=32,
    own_data="shapes",
    random_views=2,
    focal_views=0,
    target_scale=(0.3, 1.0),
    flip=0.5,
    start_rate=3e-4,
    peak_rate=3e-3,
)

# The paper gives ratio and epochs of S/16, B/16, B/4 and L/7; L/16 takes those of B/16.
PRESETS: dict[str, Recipe] = {
    "tiny-8-64": Recipe(),
    "digits": _DIGITS,
    "shapes": _SHAPES,
    "small-16": _paper("small-16", 0.15, 800),
    "base-16": _paper("base-16", 0.3, 600),
    "base-4": _paper("base-4", 0.7, 300),
    "large-16": _paper("large-16", 0.3, 600),
    "large-7": _paper("large-7", 0.7, 200, focal=98),
}
