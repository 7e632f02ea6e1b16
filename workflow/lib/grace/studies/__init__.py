"""The studies. Adding one: a module here, a prompt folder's templates, a config entry."""

from grace.studies.base import Query, StructuredAnswer, Study, Trial
from grace.studies.study1 import Study1
from grace.studies.study2 import Study2

STUDIES: dict[str, Study] = {study.name: study for study in (Study1(), Study2())}

__all__ = ["STUDIES", "Query", "StructuredAnswer", "Study", "Trial"]
