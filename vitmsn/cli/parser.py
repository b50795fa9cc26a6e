"""Every command's options, in one place: what ``--help`` shows."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from typing import Any

from vitmsn import __version__
from vitmsn.cli import attention, classify, completion, convert, evaluate, fewshot, mask, publish, serve, train
from vitmsn.cli.inputs import Options
from vitmsn.cli.output import Result

FEWSHOT = ("auto", "knn", "centroid", "ridge", "logistic", "pixels")
TEACHER = (
    "a folder, a file or a hub id of a ViT-MSN; transformers:NAME for a classifier of that package; FILE.py:FUNCTION; "
    "or a .npy file of probabilities, a row for each picture"
)
DTYPES = ("float32", "float16", "bfloat16")
RECIPES = ("squash", "resize-256-crop-224")  # of image.processor, which would bring torch
KINDS = 'JSON file of wider names for classes: {"pet": ["cat", "dog"]}'


EXIT_CODES = """exit codes:
  0    done
  1    no input could be used; each is named on stderr
  2    an error, one line on stderr
  130  interrupted by Ctrl-C; nothing half-written stays, and a training run goes on from its last checkpoint
  141  what read the output has closed the pipe

Answers go to stdout, progress and notes to stderr."""
# One for each command, shown by its --help.
EXAMPLES = {
    "classify": "holiday/ --top-k 3 --out answers.csv",
    "embed": "holiday/ --out embeddings.npz",
    "attention": "cat.jpg --kind relevance --out map.png",
    "mask": "cat.jpg --ratio 0.7 --draws 16 --json",
    "fewshot train": "examples/ --out my-classes.zip",
    "fewshot predict": "my-classes.zip holiday/ --out answers.csv",
    "map": "examples/ --method umap --out map.png",
    "lowshot": "examples/ --shots 1 2 5 --out accuracies.csv",
    "pretrain": "digits --out runs/digits",
    "finetune": "--data examples/ --epochs 10 --out runs/finetuned",
    "distil": "--teacher transformers:microsoft/resnet-50 --data pictures/ --out runs/student",
    "head": "--data examples/ --out my-model",
    "calibrate": "my-model --data unseen/ --out my-model",
    "convert": "facebook/vit-msn-small vit-msn-small",
    "push": "my-model me/my-model",
    "serve": "--model my-model --port 7861",
    "completion": "bash >> ~/.bashrc",
}


def _view(text: str) -> tuple[float, int, int]:
    """32:16:0.8 -> (0.8, 32, 16)."""
    try:
        target, focal, share = text.split(":")
        return float(share), int(target), int(focal)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no TARGET:FOCAL:SHARE like 32:16:0.8") from None


def _stretch(text: str) -> tuple[float, int, float | tuple[float, ...]]:
    """64:0.8:0.7 -> (0.8, 64, 0.7); 64:0.2 -> (0.2, 64, 0.0); 64:0.2:0,0.7 -> (0.2, 64, (0.0, 0.7))."""
    try:
        side, share, *given = text.split(":")
        [dropped] = given or ["0"]
        first, *others = map(float, dropped.split(","))
        return float(share), int(side), (first, *others) if others else first
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no SIDE:SHARE[:DROPPED] like 64:0.8:0.7") from None


def _setting(text: str) -> tuple[str, str]:
    """me_max_weight=5 -> ("me_max_weight", "5")."""
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is no NAME=VALUE like me_max_weight=5")
    return name, value


def _count(text: str) -> int:
    """A whole number of at least 1."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of at least 1")
    return int(text)


def _ending(*endings: str) -> Callable[[str], str]:
    """A check of file names, so that a long command does not fail at its end."""

    def check(text: str) -> str:
        if not text.endswith(endings):
            raise argparse.ArgumentTypeError(f"{text!r} must end in {' or '.join(endings)}")
        return text

    return check


def _numbers(text: str) -> list[int]:
    """1,3 -> [1, 3]."""
    try:
        return [int(word) for word in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no list of numbers like 1,3") from None


def _shots(text: str) -> int | float:
    number = float(text)
    return int(number) if number == int(number) else number


def make_parser(prog: str = "python -m vitmsn") -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog=prog,
        description="ViT-MSN: use it, look into it, train it.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"vitmsn {__version__}", help="print the version")
    commands: Any = top.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Callable[[Options], Result | int], about: str, among: Any = commands) -> Any:
        words = f"{'fewshot ' if among is not commands else ''}{name}"
        made = among.add_parser(
            name,
            help=about,
            description=about,
            epilog=f"example:\n  {prog} {words} {EXAMPLES[words]}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        made.set_defaults(run=run)
        return made.add_argument

    add = command("classify", classify.classify, "name what is in pictures")
    _pictures(add)
    add("--top-k", type=int, default=5, help="classes a picture (default: 5)")
    _usual(add, "write the answers to .json, .csv, or a folder of .parquet", ".json", ".csv", ".parquet")

    add = command("embed", classify.embed, "turn pictures into embeddings")
    _pictures(add)
    add("--size", type=int, help="side of the input in pixels, a multiple of the patch")
    add("--pre-layernorm", action="store_true", help="take CLS before the final LayerNorm")
    _usual(add, "write to .npz, .json, .csv, or a folder of .parquet that resumes", ".npz", ".json", ".csv", ".parquet")

    add = command("attention", attention.attention, "show where the model looks, as a map for each picture")
    _pictures(add)
    ways = ("cls", "rollout", "relevance", "patch", "to", "similar", "colors")
    about = "cls, rollout, relevance for a class; from, to or like a patch; components as colors (default: cls)"
    add("--kind", choices=ways, default="cls", help=about)
    add("--layer", type=int, default=0, help="from 1; 0 is the last")
    add("--head", type=int, default=0, help="from 1; 0 is the mean of all, -1 the largest")
    add("--heads", type=_numbers, help="mean or largest of these only, like 1,3")
    add("--start", type=int, default=1, help="first layer of rollout and relevance")
    add("--label", help="class that relevance explains, by name or number from 0; without it the answer")
    add("--row", type=int, default=1, help="of the patch, from 1, for --kind patch, to and similar")
    add("--column", type=int, default=1, help="of the patch, from 1, for --kind patch, to and similar")
    add("--size", type=int, help="side of the input in pixels: larger gives a finer map")
    add("--proportions", action="store_true", help="keep the picture's proportions, with about as many patches")
    add("--all", action="store_true", help="every layer and head: small maps, and a table with their statistics")
    add("--compare", action="store_true", help="all pictures side by side in one file, on one scale")
    add("--against", metavar="MODEL", help="compare with another model, like 'random'")
    add("--keep", type=int, default=100, help="mark the strongest patches that hold this percentage (default: 100)")
    add("--contour", action="store_true", help="a line around it, instead of colors over the picture")
    add("--palette", choices=("magma", "cividis", "grey"), default="magma", help="colors (default: magma)")
    add("--opacity", type=float, default=0.6, help="of the map over the picture (default: 0.6)")
    _usual(add, "write the map to a .png file, or to a folder for several; or all numbers to a .npz file")

    add = command("mask", mask.mask, "hide patches, and compare embedding, answer and time")
    _pictures(add)
    add("--kind", choices=("random", "focal", "block"), default="random", help="how patches are drawn")
    add("--ratio", type=float, default=0.7, help="share of the patches to hide (default: 0.7)")
    add("--seed", type=int, default=0, help="same seed, same mask")
    add("--draws", type=int, default=1, help="masks of each picture, from --seed on (default: 1)")
    add("--paint", help="hide these patches instead: row.column or rectangles, '2.3, 4.1-5.8'")
    add("--top-k", type=int, default=5, help="classes before and after")
    add("--curve", action="store_true", help="every ratio from 0 to 0.95 instead, over --draws draws each")
    about = "instead, the fewest patches found that change the answer or keep it, by attention or relevance"
    add("--search", choices=("attention", "relevance"), nargs="?", const="attention", help=about)
    _usual(add, "write the masked picture, or the curve, to a .png file, or to a folder for several")

    about = "learn classes from a few examples, and recognize them"
    both = f"examples:\n  {prog} fewshot train {EXAMPLES['fewshot train']}\n"
    both += f"  {prog} fewshot predict {EXAMPLES['fewshot predict']}"
    raw = argparse.RawDescriptionHelpFormatter
    made = commands.add_parser("fewshot", help=about, description=about, epilog=both, formatter_class=raw)
    steps = made.add_subparsers(required=True, metavar="STEP")
    add = command("train", fewshot.fewshot_train, "learn from a folder or zip of class folders, and measure it", steps)
    add("examples", help="a folder or a zip with a folder of pictures for each class")
    add("--method", choices=FEWSHOT, default="auto", help="auto: centroid up to two examples, then ridge; or pixels")
    add("--k", type=int, default=5, help="neighbors of knn (default: 5)")
    add("--temperature", type=float, default=0.07, help="of knn's vote: small trusts the nearest (default: 0.07)")
    add(
        "--caution",
        type=float,
        default=0.05,
        help="share of examples that 'none of these' may refuse (default: 0.05)",
    )
    add("--checkpoint", metavar="FOLDER", help="write backbone and linear head too, for transformers' pipeline")
    _usual(add, "write what was learned to a .zip bundle, for `predict` and for the page", ".zip")
    add = command("predict", fewshot.fewshot_predict, "recognize the classes of a bundle on pictures", steps)
    add("bundle", help="a .zip that `train` or the page wrote")
    _pictures(add)
    add("--caution", type=float, help="share of the examples that 'none of these' may refuse; by default as saved")
    add("--re-embed", action="store_true", help="embed its examples again, if another model made them")
    _usual(add, "write the answers to a .json or .csv file", ".json", ".csv")

    add = command("map", evaluate.map_, "map pictures so that similar ones are close")
    _data(add)
    add("--method", choices=("pca", "umap"), default="pca", help="pca at once, umap by neighbors (default: pca)")
    add("--neighbors", type=int, default=15, help="neighbors of each point, for umap (default: 15)")
    add("--limit", type=int, help="most pictures to map, chosen by --seed")
    add("--seed", type=int, default=0)
    _usual(add, "write the map to a .png picture, or its points to .json or .csv", ".png", ".json", ".csv")

    add = command("lowshot", evaluate.lowshot, "measure a model: a few labels a class, kNN, linear probe")
    _data(add)
    add("--test", metavar="DATA", help="test pictures; without it, part of the data is held out")
    add("--test-split", help="the split to test on, of --test or of the data")
    add("--held-out", type=float, default=0.2, help="share of each class to test on, without --test (default: 0.2)")
    add("--shots", type=_shots, nargs="+", default=[1, 2, 5, 0.01], help="labels a class, or their share below 1")
    add("--splits", type=int, default=3, help="draws of the labels (default: 3)")
    add("--k", type=int, default=20, help="neighbors of kNN (default: 20)")
    add("--seed", type=int, default=0)
    kinds = ("post-layernorm", "pre-layernorm", "raw-pixels")
    add("--features", choices=kinds, nargs="+", default=kinds[:1], help="what to measure (default: post-layernorm)")
    add(
        "--centering",
        choices=("row", "data"),
        default="row",
        help="of low-shot rows: row, as the original did, or data",
    )
    add("--baselines", action="store_true", help="random weights and raw pixels too")
    add("--figure", type=_ending(".png"), help="draw accuracy over labels to a .png file")
    _usual(add, "write the table to a .json or .csv file", ".json", ".csv")

    add = command("pretrain", train.pretrain, "train a backbone on pictures without labels")
    presets = (
        "tiny-8-64, digits or shapes (with their own data, in a minute), or the paper's small-16, base-16, base-4, ..."
    )
    add("preset", help=f"the architecture and its recipe: {presets}")
    _training(add, needed=False)
    about = "write nothing to disk, and print JSON lines (loss, prototypes in use, kNN, a map) while it learns"
    add("--watch", action="store_true", help=about)
    add("--init", help="start from this model's weights: a folder, a file or a hub id")
    add("--mask-ratio", type=float, help="share of the patches dropped from random views")
    add("--focal-views", type=int, help="small crops of each picture")
    add("--prototypes", type=int)
    about = "sides of the views in pixels and their share of the run, in order: 32:16:0.8 48:24:0.15 64:32:0.05"
    add("--views", type=_view, nargs="+", metavar="TARGET:FOCAL:SHARE", help=about)
    about = "any other setting of vitmsn.training.recipe.Recipe: me_max_weight=5 ema=0.996,1 shared_mask=true"
    add("--set", type=_setting, nargs="+", metavar="NAME=VALUE", help=about)
    add("--as-original", action="store_true", help="with details of the original code that are not in the paper")
    add("--freeze-backbone", action="store_true", help="train projector and prototypes alone, on the model of --init")
    add("--stream", action="store_true", help="leave pictures on disk (automatic when they do not fit in memory)")
    choices = ("auto", "float32", "bfloat16")
    add("--dtype", choices=choices, default="auto", help="of the backbone's forward (default: what is fast here)")
    add("--compile", action="store_true", help="use torch.compile")
    add("--log-every", type=_count, default=50, help="steps between rows of the log (default: 50)")
    add("--save-every", type=_count, default=200, help="steps between checkpoints (default: 200)")
    about = "steps between kNN of held-out pictures (default: 1000; an eighth of the run for data that come along)"
    add("--monitor-every", type=_count, help=about)

    add = command("finetune", train.finetune, "fine-tune a backbone on labelled pictures")
    about = "a folder, a file or a hub id; 'random' for the embedded one's architecture; without it the embedded model"
    add("--model", help=f"the backbone: {about}")
    _training(add)
    about = "any other setting of vitmsn.training.finetune.FinetuneRecipe: layer_decay=0.75 smoothing=0.1 mixup=0"
    add("--set", type=_setting, nargs="+", metavar="NAME=VALUE", help=about)
    about = "side of the views in pixels, its share of the run, share of the patches dropped: 64:0.9:0.7 64:0.1"
    add("--views", type=_stretch, nargs="+", metavar="SIDE:SHARE[:DROPPED]", help=about)
    add("--kinds", help=KINDS)
    add("--dtype", choices=DTYPES, default="float32", help="of the weights in the file (default: float32)")

    add = command("distil", train.distil, "teach a backbone what another model says of the whole picture")
    add("--teacher", required=True, help=TEACHER)
    about = "a folder, a file or a hub id; 'random' for new weights; without it the embedded model"
    add("--model", help=f"the student to start from: {about}")
    _training(add)
    add("--layers", type=_count, help="grow the student to so many; its function does not change at first")
    about = "crops of each picture that the teacher answers and the student is shown (default: 0, the whole picture)"
    add("--teacher-views", type=int, default=0, help=about)
    add("--teacher-side", type=_count, default=160, help="of what the teacher is shown, in pixels (default: 160)")
    add("--answers", help="folder for the teacher's answers, to share among runs (default: in --out)")
    about = "probabilities of the data's classes, FILE.npy with a row for each picture, to learn beside the labels"
    add("--soft-labels", metavar="FILE.npy", help=about)
    about = "any other setting of vitmsn.training.distil.DistilRecipe: teacher_share=0.8 muon=true average=0.9995"
    add("--set", type=_setting, nargs="+", metavar="NAME=VALUE", help=about)
    about = (
        "side of the views in pixels, its share of the run, share of the patches dropped (of several each batch takes "
        "the next): 64:0.6:0.7 64:0.3:0.5 64:0.1:0,0.7"
    )
    add("--views", type=_stretch, nargs="+", metavar="SIDE:SHARE[:DROPPED]", help=about)
    add("--kinds", help=KINDS)
    add("--precision", choices=("auto", "float32", "bfloat16"), default="auto", help="of the backbone's forward")
    add("--dtype", choices=DTYPES, default="float32", help="of the weights in the file (default: float32)")
    add("--log-every", type=_count, default=50, help="steps between rows of the log (default: 50)")
    add("--save-every", type=_count, default=200, help="steps between checkpoints (default: 200)")
    add("--monitor-every", type=_count, default=1000, help="steps between measuring held-out pictures (default: 1000)")

    add = command("head", train.head, "fit a linear classifier on a frozen backbone")
    add("--model", help="the backbone: a folder, a file or a hub id; without it the embedded model")
    _measured(add, 0.05)
    add("--kinds", help=KINDS)
    add("--dtype", choices=DTYPES, default="float16", help="of the weights in the file (default: float16)")
    add("--out", required=True, help="the model folder to write; it may be that of --model")
    _machine(add)

    add = command("calibrate", train.calibrate, "make a classifier's probabilities honest on pictures it has not seen")
    add("source", help="the classifier: a folder, a file or a hub id")
    add("--data", required=True, help="labelled pictures of its classes: a folder, parquet files, or a hub data set")
    add("--split", help="train, validation or test, where there are several")
    about = "of the pictures that is used; the rest stays unseen, to measure with (default: 1)"
    add("--share", type=float, default=1.0, help=about)
    add("--kinds", help=KINDS)
    about = "how pictures become the model's input from now on (default: as before)"
    add("--recipe", choices=RECIPES, help=about)
    add("--dtype", choices=DTYPES, default="float32", help="of the weights in the file (default: float32)")
    add("--out", required=True, help="the model folder to write; it may be that of the classifier")
    add("--threads", type=int, help="processor threads")
    add("--json", action="store_true", help="print JSON instead of a table")

    add = command(
        "convert", convert.convert, "read any checkpoint, write a folder for this package and transformers, or ONNX"
    )
    add("source", help="a hub id, a folder, or a file (.safetensors, .bin, .pth, .tar, .ckpt)")
    add("target", help="the folder to write, or an ONNX file: NAME.onnx, with its description beside it, NAME.json")
    add("--dtype", choices=DTYPES, default="float32", help="of the weights in the file (default: float32)")
    add("--set", metavar="SET.zip", help="ONNX: the classes of this saved few-shot set instead of the model's own")
    add("--re-embed", action="store_true", help="ONNX: take a set that another model made, its pictures embedded again")
    add("--attention", action="store_true", help="ONNX: also give what CLS attends to, in every layer and head")
    add("--json", action="store_true", help="print JSON instead of a table")

    add = command("push", publish.push, "send a model folder to the Hub; without --send, say what would be sent")
    add("folder", help="a model folder, as training, `fewshot train --checkpoint` and `convert` write it")
    add("name", metavar="OWNER/NAME", help="the repository on the Hub; it is made where it is not there")
    add("--send", action="store_true", help="send it; log in first with `hf auth login`")
    add("--public", action="store_true", help="for everyone to see; private without this")
    add("--message", default="Add a model of vitmsn", help="of the commit")
    add("--json", action="store_true", help="print JSON instead of a table")

    add = command("serve", serve.serve, "serve the page in the browser")
    add("--model", default=os.environ.get("VITMSN_MODEL") or None, help="a folder or a hub id")
    add("--host", help="address to listen on (default: GRADIO_SERVER_NAME or 127.0.0.1)")
    add("--port", type=int, help="port (default: GRADIO_SERVER_PORT or the first free from 7860)")
    add("--mcp", action="store_true", help="also answer agents, over MCP (or VITMSN_MCP=1)")
    add("--share-local", action="store_true", help="class mode: let phones of the local network join")

    add = command("completion", completion.completion, "print what makes a shell complete these commands and options")
    add("shell", choices=("bash", "zsh", "tcsh"), help="the shell that reads it")
    commands.choices["completion"].set_defaults(make_parser=make_parser)
    return top


def _pictures(add: Any) -> None:
    add("inputs", nargs="+", metavar="PICTURE", help="picture files, or folders with all below them")


def _data(add: Any) -> None:
    add("data", help="a folder with a folder for each class, parquet files, or a hub data set")
    add("--split", help="train, validation or test, where there are several")


def _usual(add: Any, out: str, *endings: str) -> None:
    about = "a folder, a file, a hub id, or 'random'; else VITMSN_MODEL, else the embedded one"
    add("--model", default=os.environ.get("VITMSN_MODEL") or None, help=about)
    add("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    add("--dtype", default="auto", help="auto, float32, bfloat16 or float16")
    backend = "auto, torch, compile (many pictures on a GPU) or openvino, which auto takes on a CPU if installed"
    add("--backend", default="auto", help=backend)
    add("-o", "--out", type=_ending(*endings) if endings else str, help=out)
    add("--json", action="store_true", help="print JSON instead of a table")


def _training(add: Any, needed: bool = True) -> None:
    """``needed``: whether --out and --data are required."""
    add("--out", required=needed, help="folder of the run: state, log and model; the same command again goes on")
    add("--epochs", type=float)
    add("--batch-size", type=int)
    add("--rate", type=float, help="peak learning rate")
    add("--limit-minutes", type=float, help="stop after this many minutes; the same command goes on")
    _measured(add, 0.02, needed)
    _machine(add)


def _measured(add: Any, held_out: float, needed: bool = True) -> None:
    add("--data", required=needed, help="a folder of pictures, parquet files, or a hub data set")
    add("--split", help="train, validation or test, where there are several")
    about = f"share of the pictures to measure on, not trained on (default: {held_out})"
    add("--held-out", type=float, default=held_out, help=about)
    add("--seed", type=int, default=0)


def _machine(add: Any) -> None:
    add("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    add("--threads", type=int, help="processor threads")
    add("--json", action="store_true", help="print JSON instead of a table")
