"""A scheduled task: the soil dries, and plants that become thirsty are announced on the bus."""

from daebus_runtime import Blueprint

from .events import tell
from .garden import garden

drying = Blueprint("drying")


@drying.background("dry", interval=10)
def dry() -> None:
    thirsty = garden.dry()
    if thirsty:
        tell("thirsty", plants=thirsty)
