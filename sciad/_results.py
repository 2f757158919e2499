"""How a fit or a sampling run ended: result codes that extend Optimistix's, each with its remedy."""

import optimistix as optx


class RESULTS(optx.RESULTS):  # pyright: ignore[reportGeneralTypeIssues]
    """Results of the verbs: those of Optimistix, and these."""

    no_valid_start = (
        "The model could not be evaluated at any start: every solve failed or gave an impossible prediction. Check the "
        "equation, the units of data and parameters, and the priors."
    )
    noise_not_found = (
        "The noise's parameters did not settle. Where one runs off to zero, the model follows the data exactly: give "
        "the noise a known scale, such as sd.Normal(0.1), or take another noise model."
    )
