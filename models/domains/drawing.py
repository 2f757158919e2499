"""Pictures of domains."""

from typing import TYPE_CHECKING, Any

from sciad._errors import InputError
from sciad.models.domains.base import AbstractDomain

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NUMBER, NORMALS = 400, 9  # points inside; arrows on a face


def draw_domain(domain: AbstractDomain, axes: Any = None, *, number: int = NUMBER, seed: int = 0) -> "Axes":
    """Draw points inside a domain of two coordinates, its faces in colours with their names, and outward normals.

    Parameters
    ----------
    domain
        Of two coordinates.
    axes
        Matplotlib's axes; new ones if None.
    number, seed
        How many points inside, and which.

    Raises
    ------
    InputError
        If the domain has not two coordinates.

    Examples
    --------
    >>> from sciad.models.domains import Disk
    >>> axes = draw_domain(Disk((0, 0), 1))
    >>> axes.get_xlabel(), [text.get_text() for text in axes.get_legend().get_texts()]
    ('x', ['boundary'])
    """
    import matplotlib.pyplot as plt

    if len(domain.coordinates) != 2:
        names = ", ".join(domain.coordinates)
        msg = f"draw_domain draws domains of two coordinates; this one has {names}. Draw a factor of it."
        raise InputError(msg)
    axes = plt.subplots(layout="constrained")[1] if axes is None else axes
    axes.scatter(*domain.interior(number, seed).T, s=4, color="lightgrey", zorder=1)
    for i, face in enumerate(domain.faces):
        colour = f"C{i % 10}"
        axes.scatter(*domain.surface(face, number, seed).points.T, s=3, color=colour, label=face, zorder=2)
        few = domain.surface(face, NORMALS, seed)
        axes.quiver(*few.points.T, *few.normals.T, color=colour, angles="xy", width=0.004, zorder=3)
    axes.set(xlabel=domain.coordinates[0], ylabel=domain.coordinates[1], aspect="equal")
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1), markerscale=3)
    return axes
