"""How a fit or a sampling run ended: result codes that extend Optimistix's, each with its remedy."""

import optimistix as optx


class RESULTS(optx.RESULTS):  # pyright: ignore[reportGeneralTypeIssues]
    """Results of the verbs; those of Optimistix, and these."""

    no_valid_start = (
        "The model could not be evaluated at any start: every solve failed or gave an impossible prediction. Check the equation, "
        "the units of data and parameters, and the priors."
    )
    interrupted = "Stopped by the user before the end."
