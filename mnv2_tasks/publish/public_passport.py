"""What of a passport others get to see."""

from pathlib import Path
from typing import Any

from mnv2_tasks.errors import ConfigError
from mnv2_tasks.model_card.facts import RunFacts
from mnv2_tasks.model_card.places import without_places
from mnv2_tasks.stored.checked_config import dotted


def public_passport(passport: dict[str, Any], facts: RunFacts, path: Path) -> dict[str, Any]:
    """Without the command line, which names folders, and without the place of initial weights.

    Args:
        path: of the weights, for the message.

    Raises:
        ConfigError: what rebuilds the network names a place, without which it could not be built.
    """
    for key, value in dotted(passport["config"]).items():
        if without_places(str(value)) != str(value):
            raise ConfigError(
                f"{path}: its configuration has {key}={value}, a place on this machine: nobody else could use these "
                f"weights. Train without it, or ship an exported file: python tools/export.py weights={path}"
            )
    shown = passport | {"command": "published from a run"}
    if "training" in passport:
        shown["training"] = passport["training"] | {"started_from": facts.started_from()}
    return shown
