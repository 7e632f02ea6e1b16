"""Build the bundled stimuli, resources/stimuli/study1.csv and study2.csv, from stories.yaml.

Designs as in Goodman & Stuhlmüller (2013) and Yoon et al. (2020), sentences Grace's own. Cells
are dealt out by cyclic Latin squares, so that everybody meets every cell once and every story
has every cell equally often, give or take one. Nothing is random. Run it by hand, without
arguments, after an edit of stories.yaml.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from grace.settings.yaml_reader import read_yaml
from grace.studies.catalogue import bundled

Row = dict[str, str | int]

#: Study 1's cells: how many things were looked at, how many of these have the property.
CELLS = ((1, 1), (2, 1), (2, 2), (3, 1), (3, 2), (3, 3))
#: Study 2's cells: how many hearts, which goal.
HEARTS = ("0 hearts", "1 heart", "2 hearts", "3 hearts")
GOALS = ("informative", "social", "both")
SITUATIONS = tuple((state, goal) for state in HEARTS for goal in GOALS)


def study1_trials(material: Mapping[str, Any], participants: int = 50) -> list[Row]:
    """Rows of study1.csv, participant by participant. `material` is the whole stories.yaml."""
    names = material["names"]
    wording = material["study1"]["wording"]
    rows: list[Row] = []
    for participant in range(participants):
        for number, story in enumerate(material["study1"]["stories"]):
            access, observe = CELLS[(participant + number) % len(CELLS)]
            values = {
                # One speaker a story, as in the original study: a story and cell is one prompt.
                "name": names[8 * number],
                "access": access,
                "observe": observe,
                "things": story["things"],
                "many": story["property"]["many"],
                "property": story["property"]["one" if observe == 1 else "many"],
                "looked": story["looked"],
                "tells": story["tells"],
            }
            rows.append(
                {
                    "participant_id": participant + 1,
                    "story_shortname": story["shortname"],
                    "story_setup": story["setup"].format(**values),
                    **{column: text.format(**values) for column, text in wording.items()},
                    "access": access,
                    "observe": observe,
                }
            )
    return rows


def study2_trials(material: Mapping[str, Any], participants: int = 202) -> list[Row]:
    """Rows of study2.csv, participant by participant. `material` is the whole stories.yaml."""
    names = material["names"]
    goals = material["study2"]["goals"]
    leftovers = material["study2"]["leftovers"]
    domains = material["study2"]["domains"]
    rows: list[Row] = []
    for participant in range(participants):
        for number, domain in enumerate(domains):
            # Steps of 5, which shares no factor with 12, so that hearts do not rise in order.
            state, goal = SITUATIONS[(participant + 5 * number) % len(SITUATIONS)]
            # Speakers lie 4 names apart and listeners between them, so that no one meets a name
            # twice; with every 50 participants, speakers and listeners pair up anew.
            other = (number + participant // len(names)) % len(domains)
            people = {
                "speaker": names[(participant + 4 * number) % len(names)],
                "listener": names[(participant + 4 * other + 2) % len(names)],
            }
            rows.append(
                {
                    "Participant_ID": participant + 1,
                    "Domain": domain["domain"],
                    "Precontext": domain["precontext"].format(**people),
                    "Scenario": domain["scenario"].format(**people),
                    "Utterance": leftovers[(participant + 2 * number) % len(leftovers)],
                    "Goal": goals[goal].format(**people),
                    "State": state,
                    "SP_Name": people["speaker"],
                    "LS_Name": people["listener"],
                }
            )
    return rows


def write_csv(path: Path, columns: Sequence[str], rows: Sequence[Row]) -> None:
    """Write rows as UTF-8 CSV with these columns, in this order; raises on any other column."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def make_stimuli(stories: Path, study1: Path, study2: Path) -> None:
    """Read `stories` and write both trial files."""
    material = read_yaml(stories)
    studies = bundled(Path(__file__).parents[2], "study1", "study2")
    write_csv(study1, studies["study1"].input_columns(), study1_trials(material))
    write_csv(study2, studies["study2"].input_columns(), study2_trials(material))


if __name__ == "__main__":
    folder = Path(__file__).parents[2] / "resources" / "stimuli"
    make_stimuli(folder / "stories.yaml", folder / "study1.csv", folder / "study2.csv")
