"""The studies. Adding one: two modules here, a prompt folder's templates, a config entry."""

from grace.studies.answers import StructuredAnswer, Study
from grace.studies.base import Query, StudyDesign, Trial
from grace.studies.study1 import Study1Design
from grace.studies.study1_answers import Study1
from grace.studies.study2 import Study2Design
from grace.studies.study2_answers import Study2

#: What each study asks: all that a model's answers depend on.
DESIGNS: dict[str, StudyDesign] = {
    design.name: design for design in (Study1Design(), Study2Design())
}
#: The studies whole, with how their answers are read.
STUDIES: dict[str, Study] = {study.name: study for study in (Study1(), Study2())}

__all__ = ["DESIGNS", "STUDIES", "Query", "StructuredAnswer", "Study", "StudyDesign", "Trial"]
