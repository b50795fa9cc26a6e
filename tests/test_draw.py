"""Drawings: the right pixels in the right places, and readable charts with any labels."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from vitmsn import draw
from vitmsn.errors import InputError

RGB = Image.effect_noise((60, 40), 60).convert("RGB")  # width 60, height 40
NASTY = ["$5 {x}", "\\frac", "a\nb\x00", "日本語", "emoji 🙂", "<b>", "x" * 200, ""]


def pixels(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture).astype(int)


# Colors


def test_classes_have_a_color_and_a_letter() -> None:
    assert [draw.class_style(index)[1] for index in (0, 25, 26, 27, 51, 52, 701, 702)] == [
        *("A", "Z", "AA", "AB", "AZ", "BA", "ZZ", "AAA")
    ]
    assert [draw.class_style(index)[0] for index in range(8)] == list(draw.OKABE_ITO)
    assert draw.class_style(8)[0] == draw.class_style(0)[0]
    assert len({draw.class_style(index) for index in range(200)}) == 200
    with pytest.raises(InputError, match="at least 0"):
        draw.class_style(-1)


def test_colors_do_not_import_matplotlib() -> None:
    code = "import sys; from vitmsn import draw; draw.class_style(3); sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_ramp_grows_evenly_lighter() -> None:
    values = np.linspace(0, 1, 64)
    light = draw.color(values, (0, 1)) @ np.array([0.2126, 0.7152, 0.0722])
    assert (np.diff(light) > 0).all() and light[0] < 5 and light[-1] > 230
    assert draw.ramp(3) == ["#000004", "#b73779", "#fcfdbf"]


def test_values_outside_the_scale_are_clipped_and_nan_is_gray() -> None:
    found = draw.color(np.array([-1.0, 0.0, 1.0, 9.0, np.nan]), (0, 1))
    assert (found[0] == found[1]).all() and (found[2] == found[3]).all()
    assert tuple(found[4]) == draw.HIDDEN


def test_the_default_scale_ignores_nan() -> None:
    assert draw.own_scale(np.array([[0.1, np.nan, 0.4]])) == (0.0, pytest.approx(0.4))
    assert draw.own_scale(np.zeros((2, 2))) == (0.0, 1.0)
    with pytest.raises(InputError, match="no number"):
        draw.own_scale(np.full((2, 2), np.nan))


@pytest.mark.parametrize(
    ("share", "said"), [(0.0412, "4.1 %"), (0.5, "50 %"), (1, "100 %"), (0.00321, "0.32 %"), (0, "0 %")]
)
def test_shares_as_text(share: float, said: str) -> None:
    assert draw.percent(share) == said


# Over a photograph


def test_an_overlay_without_opacity_is_the_photograph_and_with_all_of_it_the_map() -> None:
    values = np.random.default_rng(0).random((4, 6))
    assert (pixels(draw.overlay(RGB, values, 0)) == pixels(RGB)).all()
    only = pixels(draw.overlay(RGB, values, 1, (0, 1)))
    assert (only[::10, ::10] == draw.color(values, (0, 1))).all()
    assert (only[5:15:9, 12:18:5] == only[10, 12]).sum() < only[5:15:9, 12:18:5].size  # patches have edges


def test_patches_are_drawn_where_the_model_cuts_them() -> None:
    values = np.zeros((2, 3))
    values[1, 2] = 1
    bright = pixels(draw.overlay(RGB, values, 1)).sum(-1) > 300
    assert bright[20:, 40:].all() and bright.sum() == 20 * 20
    odd = pixels(draw.overlay(RGB.resize((61, 43)), values, 1)).sum(-1) > 300
    assert not odd[:21].any() and not odd[:, :40].any() and odd[22:, 41:].all()


def test_dim_patches_keep_no_color() -> None:
    kept = np.zeros((2, 3), dtype=bool)
    kept[0, 0] = True
    shown = pixels(draw.overlay(RGB, np.ones((2, 3)), 0.5, kept=kept))
    outside = shown[20:]
    assert (outside == outside[..., :1]).all() and outside.max() <= 0.36 * 255
    assert (shown[:20, :20] == pixels(draw.overlay(RGB, np.ones((2, 3)), 0.5))[:20, :20]).all()


def test_masked_patches_are_gray_and_the_others_untouched() -> None:
    kept = np.array([[True, False, True], [False, True, True]])
    shown = pixels(draw.masked_picture(RGB, kept))
    whole = np.kron(kept, np.ones((20, 20), dtype=bool)).astype(bool)
    assert (shown[whole] == pixels(RGB)[whole]).all() and (shown[~whole] == draw.HIDDEN).all()


def test_a_highlight_stays_around_its_patch() -> None:
    plain = RGB.resize((600, 400))
    marked = draw.highlight(plain, 1, 2, (2, 3))
    changed = (pixels(marked) != pixels(plain)).any(-1)
    assert marked.size == plain.size and changed[200, 400] and not changed[:190].any() and not changed[:, :390].any()
    assert not changed[230:380, 430:570].any(), "what is inside can be seen"
    assert (pixels(RGB) == pixels(RGB.copy())).all()
    with pytest.raises(InputError, match="row 2, column 0 of 2 x 3"):
        draw.highlight(RGB, 2, 0, (2, 3))


def test_a_highlight_of_a_tiny_patch_is_drawn() -> None:
    assert draw.highlight(Image.new("RGB", (8, 8)), 15, 15, (16, 16)).size == (8, 8)


@pytest.mark.parametrize(
    ("ask", "why"),
    [
        (lambda: draw.overlay(RGB, np.ones(4)), "rows, columns"),
        (lambda: draw.overlay(RGB, np.ones((2, 2)), 1.5), "from 0 to 1"),
        (lambda: draw.overlay(RGB, np.ones((2, 2)), kept=np.ones((2, 3), bool)), "must be equal"),
        (lambda: draw.masked_picture(RGB, np.ones((0, 2), bool)), "rows, columns"),
        (lambda: draw.head_grid(np.ones((2, 3, 4))), "rows of maps"),
    ],
)
def test_invalid_maps_are_refused(ask: object, why: str) -> None:
    assert callable(ask)
    with pytest.raises(InputError, match=why):
        ask()


def test_all_heads_share_one_scale_and_are_in_order() -> None:
    maps = np.zeros((2, 3, 4, 5))
    maps[1, 2] = 1
    maps[0, 1] = 0.5
    sheet = pixels(draw.head_grid(maps, zoom=2, gap=4))
    assert sheet.shape == (2 * 8 + 4, 3 * 10 + 8, 3)
    low, middle, high = draw.color(np.array([0, 0.5, 1]), (0, 1)).astype(int)
    assert (sheet[:8, :10] == low).all() and (sheet[:8, 14:24] == middle).all() and (sheet[12:, 28:] == high).all()
    assert (sheet[8:12] == 255).all()
    assert draw.head_grid(maps, zoom=1, gap=0).size == (15, 8)


def test_a_legend_is_added_underneath() -> None:
    plain = Image.new("RGB", (300, 100), "green")
    both = draw.with_legend(plain, (0, 0.25), "of the attention")
    assert both.width == 300 and both.height > 130
    assert (pixels(both)[:100] == pixels(plain)).all()
    ramp = pixels(both)[112, 8:292]
    assert ramp[0].sum() < 60 and ramp[-1].sum() > 600
    assert draw.with_legend(Image.new("RGB", (10, 10)), (0, 1), "too long to fit").width == 10


# Charts


def test_charts_are_drawn_light_and_dark() -> None:
    lines = {"one": [1.0, 0.5, 0.2], "many": np.random.default_rng(0).random((4, 3))}
    for dark in (False, True):
        for picture in (
            draw.curve([0, 0.5, 1], lines, x_label="hidden", y_label="similarity", mark=(0.5, 0.5), dark=dark),
            draw.confusion(np.eye(3, dtype=int), ["a", "b", "c"], dark=dark),
            draw.scatter(np.random.default_rng(0).normal(size=(30, 2)), ["a", "b", "c"] * 10, dark=dark),
        ):
            assert picture.mode == "RGB" and min(picture.size) > 200
            assert (picture.getpixel((0, 0))[0] < 60) is dark
            assert picture.convert("L").entropy() > 0.1


def test_labels_can_contain_any_text() -> None:
    many = len(NASTY)
    draw.confusion(np.arange(many * many).reshape(many, many), NASTY)
    draw.scatter(np.random.default_rng(0).normal(size=(many, 2)), NASTY, title="$\\alpha$ 日本")
    draw.curve([0, 1], {name: [0.0, 1.0] for name in NASTY}, x_label="$x", y_label="$y$")


def test_a_scatter_colors_by_the_order_of_classes() -> None:
    points = np.array([[0.0, 0.0], [1.0, 1.0]])
    colors = {tuple(int(tone[i : i + 2], 16) for i in (1, 3, 5)) for tone in draw.OKABE_ITO[1:3]}
    picture = pixels(draw.scatter(points, ["b", "c"], classes=["a", "b", "c"]))
    for tone in colors:
        assert (abs(picture - tone).sum(-1) < 24).sum() > 50


def test_many_points_and_many_classes() -> None:
    rng = np.random.default_rng(0)
    assert draw.scatter(rng.normal(size=(400, 2)), [f"class {i % 40}" for i in range(400)]).width > 500
    assert draw.confusion(rng.integers(0, 9, (40, 40)), [f"class {i}" for i in range(40)]).width > 500
    assert draw.scatter(np.zeros((0, 2)), []).width > 500


@pytest.mark.parametrize(
    ("ask", "why"),
    [
        (lambda: draw.scatter(np.zeros((2, 3)), ["a", "b"]), r"\(N, 2\)"),
        (lambda: draw.scatter(np.full((1, 2), np.nan), ["a"]), "finite"),
        (lambda: draw.scatter(np.zeros((1, 2)), ["a"], classes=["b"]), "'a' is not among the classes"),
        (lambda: draw.confusion(np.zeros((2, 3)), ["a", "b"]), "2 classes"),
        (lambda: draw.confusion(np.zeros((0, 0)), []), "0 classes"),
        (lambda: draw.curve([0, 1], {"a": [1.0]}, x_label="", y_label=""), "1 points and x has 2"),
    ],
)
def test_charts_with_mismatched_data_are_refused(ask: object, why: str) -> None:
    assert callable(ask)
    with pytest.raises(InputError, match=why):
        ask()


def test_threads_draw_the_same_charts() -> None:
    def one(_: int) -> bytes:
        return draw.confusion(np.eye(3, dtype=int), ["a", "b", "$c$"]).tobytes()

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(one, range(6)))) == 1


# Palettes, contours, colors, side by side


@pytest.mark.parametrize("palette", draw.PALETTES)
def test_every_palette_grows_lighter_evenly(palette: str) -> None:
    """Read in gray, as by an eye without colors: the order of the values is the order of the lightness."""
    rgb = draw.color(np.linspace(0, 1, 64), (0, 1), palette).astype(float)
    lightness = rgb @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(lightness) > 0).all() and lightness[-1] - lightness[0] > 150
    assert len(draw.ramp(5, palette)) == 5


def test_an_unknown_palette_is_refused() -> None:
    with pytest.raises(InputError, match="choose one of magma, cividis, grey"):
        draw.ramp(palette="jet")


def test_a_contour_outlines_only_the_set() -> None:
    kept = np.zeros((4, 4), bool)
    kept[1:3, 1] = True
    plain = Image.new("RGB", (400, 400), "white")
    drawn = np.asarray(draw.contour(plain, kept))
    touched = (drawn != 255).any(-1)
    assert touched[100:300, 100].all() and touched[100:300, 200].all() and touched[100, 100:200].all()
    assert not touched[200, 110:190].any(), "no line between two patches of the set"
    assert not touched[:90].any() and not touched[:, 210:].any() and not touched[110:190, 110:190].any()
    assert not (np.asarray(draw.contour(plain, np.zeros((2, 2)))) != 255).any()


def test_tints_use_the_colors_and_hidden_patches_are_gray() -> None:
    colors = np.zeros((1, 3, 3))
    colors[0, 0], colors[0, 1], colors[0, 2] = (1, 0, 0), (0, 0.5, 1), np.nan
    shown = np.asarray(draw.tinted(Image.new("RGB", (30, 10), "white"), colors, 1))
    assert shown[5, 5].tolist() == [255, 0, 0] and shown[5, 15].tolist() == [0, 128, 255]
    assert shown[5, 25].tolist() == list(draw.HIDDEN)
    with pytest.raises(InputError, match="opacity"):
        draw.tinted(Image.new("RGB", (3, 3)), colors, 2)


def test_pictures_side_by_side_keep_their_proportions() -> None:
    sheet = draw.beside([Image.new("RGB", (200, 100), "red"), Image.new("RGB", (100, 100), "blue")], ["a", "b" * 90])
    assert sheet.size == (200 + 16 + 100, 100 + 28)
    assert sheet.getpixel((100, 80)) == (255, 0, 0) and sheet.getpixel((300, 80)) == (0, 0, 255)
