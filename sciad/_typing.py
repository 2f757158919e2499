"""Names for the array types that public signatures share."""

import numpy as np
from jaxtyping import Array, Float

Real = float | int | Float[Array, ""] | Float[np.ndarray, ""]
