"""`push`: a model folder to the Hub; without --send it says what would be sent."""

from __future__ import annotations

from vitmsn.cli.inputs import Options
from vitmsn.cli.output import Result


def push(options: Options) -> Result:
    from vitmsn import publish

    planned = publish.plan(options.folder, options.name)
    rows = [(file, f"{size:,}") for file, size in planned.files]
    data = {**planned.to_dict(), "private": not options.public, "sent": options.send}
    seen = "public" if options.public else "private"
    if not options.send:
        lines = ["", *planned.card.splitlines(), ""]
        lines.append(f"nothing was sent; --send sends these {planned.bytes:,} bytes to {options.name}, {seen}")
        return Result(data, ("file", "bytes"), rows, lines)
    address = publish.push_to_hub(planned, private=not options.public, message=options.message)
    return Result({**data, "address": address}, ("file", "bytes"), rows, [f"{address} has them, {seen}"])
