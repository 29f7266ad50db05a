"""All formats: name -> what makes a sound file and what reads it."""

from tests.fuzz.images import IMAGES
from tests.fuzz.models import MODELS
from tests.fuzz.stores import STORES
from tests.fuzz.tables import TABLES

TARGETS = {**IMAGES, **MODELS, **STORES, **TABLES}
