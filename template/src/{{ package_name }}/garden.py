"""The garden: its plants and the moisture of their soil, in per cent. It does not know about messages."""

START = {"basil": 60, "mint": 45, "tomato": 30}
THIRSTY_BELOW = 20


class UnknownPlant(LookupError):
    """No plant of this name grows here."""


class Garden:
    """Soil moisture by plant name."""

    def __init__(self) -> None:
        self.moisture = dict(START)

    def water(self, plant: str, percent: int = 25) -> int:
        """Waters one plant and returns its new moisture. Raises UnknownPlant."""
        if plant not in self.moisture:
            raise UnknownPlant(f"no {plant!r} grows here, only {', '.join(self.moisture)}")
        self.moisture[plant] = min(100, self.moisture[plant] + percent)
        return self.moisture[plant]

    def plant(self, plant: str) -> None:
        """Grows one more plant; nothing changes if it grows here already."""
        self.moisture.setdefault(plant, 50)

    def rain(self, percent: int = 25) -> None:
        """Waters all plants."""
        for plant in self.moisture:
            self.water(plant, percent)

    def dry(self, percent: int = 1) -> list[str]:
        """Dries all plants a little and returns those that have just become thirsty."""
        before = self.thirsty()
        self.moisture = {plant: max(0, moisture - percent) for plant, moisture in self.moisture.items()}
        return [plant for plant in self.thirsty() if plant not in before]

    def thirsty(self) -> list[str]:
        """The plants that should be watered now."""
        return [plant for plant, moisture in self.moisture.items() if moisture < THIRSTY_BELOW]


garden = Garden()
