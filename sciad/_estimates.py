"""Estimates with their covariance, as a table."""

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy import stats as st

from sciad._errors import OptionError


class Estimates:
    """What has names, values and a covariance."""

    names: tuple[str, ...]
    values: Float[np.ndarray, " k"]
    covariance: Float[np.ndarray, "k k"]

    @property
    def standard_errors(self) -> Float[np.ndarray, " k"]:
        """Square roots of the covariance's diagonal."""
        return np.sqrt(np.diag(self.covariance))

    def table(self, level: float = 0.95) -> pd.DataFrame:
        """Return estimates, standard errors and limits of confidence (normal law), a row for each unknown number."""
        if not 0 < level < 1:
            msg = f"table(level={level}): expected a probability between 0 and 1, such as 0.95."
            raise OptionError(msg)
        away = st.norm.ppf(0.5 + level / 2) * self.standard_errors
        columns = {
            "value": self.values,
            "standard_error": self.standard_errors,
            "lower": self.values - away,
            "upper": self.values + away,
        }
        return pd.DataFrame(columns, index=list(self.names))
