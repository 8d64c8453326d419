"""What one run of a measure found."""
import dataclasses


@dataclasses.dataclass
class Sample:
    """The figures of one case of a measure, by their names in `report.FIGURES`."""

    measure: str
    case: str
    values: dict
    others: float = 0.0  # share of the machine that strangers used meanwhile, 0..1
