"""`classify` and `embed`: what is on pictures, and pictures as vectors."""

from __future__ import annotations

from vitmsn.cli import parquet
from vitmsn.cli.inputs import Inputs, Options, load_encoder
from vitmsn.cli.output import Result, percent, whole, write_table
from vitmsn.names import escaped

# --- classify, embed -----------------------------------------------------------------------------------------------


def classify(options: Options) -> Result | int:
    parquet.take_device(options)
    encoder, inputs = load_encoder(options), Inputs(options.inputs)
    if parquet.wanted(options):
        return parquet.classify(options, encoder, inputs)
    figure = percent if encoder.has_classifier else "{:.4g}".format
    found, rows = [], []
    for names, pictures in inputs.batches():
        for name, answer in zip(names, encoder.classify(pictures, top_k=options.top_k), strict=True):
            found.append({"file": name, **answer.to_dict()})
            others = list(zip(answer.labels, answer.probabilities, strict=True))[max(answer.right, 1) :]
            rest = ", ".join(f"{label} {figure(value)}" for label, value in others[:2])
            rows.append((name, answer.named(), answer.labels[0], figure(answer.probabilities[0]), rest))
    data = {"model": encoder.name, "pictures": found, "skipped": inputs.skipped}
    what = "probability" if encoder.has_classifier else "value"
    result = Result(data, ("file", "answer", "closest", what, "next"), rows, worked=bool(found))
    if options.out:
        write_table(result, options.out)
    return result


def embed(options: Options) -> Result | int:
    import numpy as np

    parquet.take_device(options)
    encoder, inputs = load_encoder(options), Inputs(options.inputs)
    if parquet.wanted(options):
        return parquet.embed(options, encoder, inputs)
    names, chunks = [], []
    for chunk, pictures in inputs.batches():
        chunks.append(encoder.embed(pictures, size=options.size, layernorm=not options.pre_layernorm))
        names.extend(chunk)
    dim = encoder.config.hidden_size
    embeddings = np.concatenate(chunks) if chunks else np.zeros((0, dim), np.float32)
    numbers = [[round(float(value), 6) for value in row] for row in embeddings]
    data = {"model": encoder.name, "dim": dim, "files": names, "embeddings": numbers, "skipped": inputs.skipped}
    result = Result(data, worked=bool(names), lines=[f"{len(names)} embeddings of {dim} numbers"])
    if options.out and options.out.endswith(".npz"):
        with whole(options.out) as fresh:
            np.savez_compressed(fresh, files=np.array(list(map(escaped, names))), embeddings=embeddings)
    elif options.out:
        result.header = ("file", *map(str, range(dim)))
        result.rows = [(name, *row) for name, row in zip(names, numbers, strict=True)]
        write_table(result, options.out)
    norms = np.linalg.norm(embeddings, axis=1)
    result.header = ("file", "norm", "first numbers")  # a terminal is no place for hundreds of columns
    result.rows = [
        (name, f"{norm:.3f}", " ".join(f"{value:.3f}" for value in row[:4]))
        for name, norm, row in zip(names, norms, embeddings, strict=True)
    ]
    return result
