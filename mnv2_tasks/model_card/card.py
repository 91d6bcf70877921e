"""The model card of a run: what it does, how well, how it came to be, and what nobody has tried.

Markdown for people, with the front matter that Hugging Face's hub reads. Names of classes and data are strangers', and
so is what configurations say: whatever is written into a card is escaped. It may be published: it tells no place on the
user's machine.
"""

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from mnv2_tasks.drawing.table import Table, markdown_text
from mnv2_tasks.model_card.card_tables import (
    CLASSES_SHOWN,
    class_table,
    data_table,
    intervals_of,
    other_scores,
    recipe_table,
    score_table,
)
from mnv2_tasks.model_card.facts import RunFacts
from mnv2_tasks.model_card.front_matter import front_matter
from mnv2_tasks.wording import counted, first_few

DRAWN = "shapes"  # data that lie in no file
OF_THE_FOLDER = "weights.safetensors"


def model_card(
    facts: RunFacts,
    *,
    weights: str = OF_THE_FOLDER,
    license: str | None = None,
    picture: str | None = "samples/validation.png",
) -> str:
    """
    Args:
        weights: what readers of the card give to `mnv2_tasks.load`: a word of ours, it is not escaped.
        license: of the weights, as the hub calls it; None: the card says that nobody has named one.
        picture: of samples, beside the card; None: there is none.
    """
    intervals = {task: intervals_of(facts, task) for task in facts.kinds}
    tables = [class_table(facts, task, intervals[task]) for task in facts.kinds]
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        finalize=_escaped,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template("model_card.md.jinja").render(
        front_matter=Markup(front_matter(facts, license)),
        title=facts.title,
        tasks=[
            {
                "name": task,
                "kind": kind,
                "count": counted(len(facts.class_names(task)), "class"),
                "classes": first_few(facts.class_names(task), CLASSES_SHOWN),
            }
            for task, kind in facts.kinds.items()
        ],
        data=_markdown(data_table(facts)),
        scores=_markdown(score_table(facts, intervals)),
        have_intervals=any(of.score for of in intervals.values()),
        details=[_markdown(table) for table in (*tables, other_scores(facts)) if table.rows],
        recipe=_markdown(recipe_table(facts)),
        params=f"{facts.cost.params / 1e6:.3f}",
        madds=f"{facts.cost.madds / 1e9:.3f}",
        size=facts.config["imgsz"],
        trained_in=facts.description.get("precision"),
        scored_in=facts.metrics.get("precision"),
        drawn=DRAWN in map(facts.data, facts.kinds),
        version=facts.description.get("version"),
        weights=Markup(weights),
        license=license,
        picture=picture,
    )


def _escaped(value: Any) -> Any:
    return value if isinstance(value, Markup) else markdown_text(str(value))


def _markdown(table: Table) -> Markup:
    """Its cells are escaped."""
    return Markup(table.to_markdown().strip())
