"""The command line: ``python -m vitmsn COMMAND ...``; everything the page shows, as a command.

Each command is a function from its options to a :class:`Result`, which ``main`` prints as a table or as JSON. What a
command needs is imported inside it, so that ``--help`` is quick. As on the page, layers, heads, rows and columns count
from 1.

Exit codes: 0; 1 where no input could be used; 2 for an error, one line on stderr; 130 after Ctrl-C.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

from vitmsn import limits
from vitmsn.cli.output import as_json, plain, say, table
from vitmsn.cli.parser import make_parser
from vitmsn.errors import ViTMSNError


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    # as it was called: the script that pip installs, or `python -m vitmsn`
    parser = make_parser("vitmsn" if Path(sys.argv[0]).stem == "vitmsn" else "python -m vitmsn")
    if not (sys.argv[1:] if argv is None else argv):
        print(parser.format_help(), file=sys.stderr)
        return 2
    try:
        limits.check()
        options = parser.parse_args(argv)
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_, **__: say(str(message))
            answer = options.run(options)
        if isinstance(answer, int):
            return answer
        shown = [table(answer.header, answer.rows)] if answer.rows else []
        print(as_json(answer.data) if options.json else "\n".join([*shown, *map(plain, answer.lines)]))
        sys.stdout.flush()
    except KeyboardInterrupt:
        say("interrupted")
        return 130
    except BrokenPipeError:  # the reader of a pipe has closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (ViTMSNError, OSError) as error:
        say(str(error))
        return 2
    return 0 if answer.worked else 1
