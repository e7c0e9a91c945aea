"""The parser of the command line. A mistake is one sentence, with what was probably meant."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from itertools import takewhile
from typing import Any, NoReturn

from rmpe_legacy.wording import did_you_mean, shorten

from .terminal import USAGE, write_error


class Parser(argparse.ArgumentParser):
    """A parser that suggests commands, options and choices for mistyped ones. Its commands use the same class."""

    def error(self, message: str) -> NoReturn:
        """Print one sentence without the usage, which for some commands is 20 lines, and exit with code 2."""
        hint = "" if message.endswith("?") else f"; see `{self.prog} --help`"
        write_error(f"{self.prog}: error: {message}{hint}")
        raise SystemExit(USAGE)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Refuse what is unknown here: the parser of a command knows its options, that of all commands does not."""
        if args is not None:
            self._refuse_typos(args)
        parsed, unknown = super().parse_known_args(args, namespace)
        if unknown:
            what = "there is no option" if unknown[0].startswith("-") else "unexpected argument"
            self.error(f"{what} '{shorten(unknown[0].partition('=')[0])}'{self._near(unknown[0])}")
        return parsed, unknown

    def _refuse_typos(self, args: Iterable[str]) -> None:
        """Refuse mistyped options first: argparse says of a required one only that it is missing."""
        if any(action.nargs in (argparse.PARSER, argparse.REMAINDER) for action in self._actions):
            return  # options that follow may be those of a command or script
        for given in takewhile(lambda each: each != "--", args):
            if near := self._near(given):
                self.error(f"there is no option '{shorten(given.partition('=')[0])}'{near}")

    def _near(self, given: str) -> str:
        """The suggestion for an option, which argparse knows by its beginning too."""
        option, known = given.partition("=")[0], self._option_string_actions
        is_known = not option.startswith("-") or any(each.startswith(option) for each in known)
        return "" if is_known else did_you_mean(option, known)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Replace argparse's list of all choices by the one that was probably meant, if there is one."""
        choices: Iterable[Any] = action.choices or ()
        if value in choices:
            return
        near = did_you_mean(str(value), map(str, choices))
        if isinstance(action, argparse._SubParsersAction):
            raise argparse.ArgumentError(None, f"there is no command '{shorten(str(value))}'{near}")
        if near:
            raise argparse.ArgumentError(action, f"there is no '{shorten(str(value))}'{near}")
        super()._check_value(action, value)
