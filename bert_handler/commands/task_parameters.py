"""Parameters of the task, as commands take them: NAME=VALUE."""

from __future__ import annotations

from typing import Any, Dict, List, Optional

from bert_handler.errors import ConfigError

HELP = "NAME=VALUE for the task; VALUE is JSON or a text. May be repeated."


def task_parameters(options: Optional[List[str]]) -> Dict[str, Any]:
    """The values by name; what is not JSON is a text.  Raises ConfigError where a name is missing."""
    from bert_handler import jsonio

    found: Dict[str, Any] = {}
    for option in options or ():
        name, separator, value = option.partition("=")
        if not separator:
            raise ConfigError(f"--parameter {option!r} must be NAME=VALUE")
        try:
            found[name] = jsonio.loads(value)
        except ValueError:
            found[name] = value
    return found
