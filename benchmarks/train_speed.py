"""A pre-training step against a plain float32 one, as it is usually put together from torch's own layers.

    python -m benchmarks train_speed           a minute on two cores

Both train the embedded model's architecture on the same batch and views: one target, one random view masked by 0.3,
four focal crops, 512 prototypes, AdamW. The plain step uses ``nn.TransformerEncoderLayer`` (q, k, v in one product,
fused attention), float32 throughout; ours chooses its precision as `pretrain` does. Expected: twice the pictures where
the processor multiplies bfloat16 in hardware; in float32 both spend their time in the same matrix products.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks import Row, in_turn, rate, speedup
from vitmsn import masking
from vitmsn.devices import choose_dtype
from vitmsn.msn_head import MSNHead
from vitmsn.training import augment
from vitmsn.training.recipe import PRESETS, Stage
from vitmsn.training.trainer import Trainer

BATCH, SIDE, FOCAL = 64, 64, 32


class PlainViT(nn.Module):
    """A ViT of torch's own layers: patches, a class token, pre-norm encoder layers; the CLS embedding."""

    def __init__(self, dim: int, layers: int, heads: int, patch: int, side: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, dim, patch, patch)
        self.cls = nn.Parameter(torch.zeros(1, 1, dim))
        self.positions = nn.Parameter(torch.randn(1, dim, side // patch, side // patch) * 0.02)
        self.first = nn.Parameter(torch.zeros(1, 1, dim))
        self.encoder = nn.ModuleList(
            nn.TransformerEncoderLayer(dim, heads, 4 * dim, 0.0, "gelu", batch_first=True, norm_first=True)
            for _ in range(layers)
        )
        self.norm = nn.LayerNorm(dim)

    def forward(self, pixels: Tensor, keep: Tensor | None = None) -> Tensor:
        x = self.patches(pixels)
        x = (x + F.interpolate(self.positions, x.shape[-2:], mode="bicubic")).flatten(2).transpose(1, 2)
        if keep is not None:
            x = torch.gather(x, 1, keep.unsqueeze(-1).expand(-1, -1, x.shape[-1]))
        x = torch.cat([(self.cls + self.first).expand(len(x), -1, -1), x], dim=1)
        for layer in self.encoder:
            x = layer(x)
        return self.norm(x[:, 0])


class PlainStep:
    """The same step, as short as is correct, on the same keyed views."""

    def __init__(self, pictures: Tensor) -> None:
        recipe = PRESETS["tiny-8-64"]
        model = recipe.model
        self.recipe, self.pictures = recipe, pictures
        self.student = PlainViT(model.hidden_size, model.num_hidden_layers, model.num_attention_heads, 8, SIDE)
        self.head = MSNHead(model.hidden_size, recipe.hidden, recipe.output, recipe.prototypes)
        self.target, self.target_head = copy.deepcopy(self.student), copy.deepcopy(self.head)
        self.optimizer = torch.optim.AdamW([*self.student.parameters(), *self.head.parameters()], lr=1e-3)
        self.step = 0

    def assign(self, projected: Tensor, temperature: float) -> Tensor:
        prototypes = F.normalize(self.head.prototypes, dim=1)
        return F.softmax(F.normalize(projected, dim=1) @ prototypes.T / temperature, dim=1)

    def __call__(self) -> None:
        keys = torch.arange(BATCH)
        target_view = augment.ViewRecipe(SIDE, self.recipe.target_scale, 0.5)
        focal_view = augment.ViewRecipe(FOCAL, self.recipe.focal_scale, 0.5)
        draw = [augment.draw_view(self.pictures[:BATCH], keys, target_view, 0, n) for n in range(2)]
        focal = [augment.draw_view(self.pictures[:BATCH], keys, focal_view, 0, n) for n in range(2, 6)]
        keep = masking.random_mask((8, 8), self.recipe.mask_ratio, torch.Generator().manual_seed(self.step), BATCH)
        with torch.no_grad():
            target = self.assign(self.target_head(self.target(draw[0])), 0.025)
            for _ in range(3):
                target = target / target.sum(0, keepdim=True)
                target = target / target.sum(1, keepdim=True)
        cls = torch.cat([self.student(draw[1], keep), self.student(torch.cat(focal))])
        anchors = self.assign(self.head(cls), 0.1)
        mean = anchors.mean(0)
        loss = -(target.repeat(5, 1) * anchors.log()).sum(1).mean() + (mean * mean.log()).sum()
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.student.parameters(), 3.0)
        self.optimizer.step()
        with torch.no_grad():
            for ours, new in zip(self.target.parameters(), self.student.parameters(), strict=True):
                ours.mul_(0.99).add_(new, alpha=0.01)
            for ours, new in zip(self.target_head.parameters(), self.head.parameters(), strict=True):
                ours.mul_(0.99).add_(new, alpha=0.01)
        self.step += 1


def rows(quick: bool = False) -> Iterator[Row]:
    torch.manual_seed(0)
    pictures = torch.randint(0, 256, (4 * BATCH, 3, SIDE, SIDE), dtype=torch.uint8)
    recipe = replace(PRESETS["tiny-8-64"], stages=(Stage(1.0, SIDE, FOCAL),), batch_size=BATCH, epochs=1000)
    precision = choose_dtype("auto", torch.device("cpu"))
    plain, ours = PlainStep(pictures), Trainer(recipe, pictures, precision=precision)
    times = in_turn({"ours": ours.train_step, "plain": plain}, 3 if quick else 10)
    half = precision == torch.bfloat16
    claim = f"MSN step, tiny-8-64 at 64 px, {str(precision).removeprefix('torch.')} over plain float32"
    said = (rate(times, name, BATCH) for name in ("ours", "plain"))
    yield Row(claim, *said, speedup(times, "ours", "plain"), 2.0 if half else 1.0)
