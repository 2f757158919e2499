"""Chemical and biochemical kinetics."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from sciad._roles import Param, param, positive
from sciad._typing import Real


class Robertson(eqx.Module):
    r"""Autocatalysis with rates that differ by nine orders of magnitude: the classic of stiffness.

    .. math:: \dot x = -k_1 x + k_3 y z, \qquad \dot y = k_1 x - k_2 y^2 - k_3 y z, \qquad \dot z = k_2 y^2

    Parameters
    ----------
    k1, k2, k3
        Rate constants, per second, and per second and unit of concentration.

    Notes
    -----
    Source: H. H. Robertson, *The solution of a set of reaction rate equations*, in *Numerical Analysis* (1966). Needs
    an implicit solver: ``sd.ODE(diffrax.Kvaerno5())``.

    Examples
    --------
    >>> Robertson(k1=param(0.5))(0.0, jnp.array([1.0, 0.0, 0.0])).tolist()
    [-0.5, 0.5, 0.0]
    """

    k1: Param = positive(0.04)
    k2: Param = positive(3e7)
    k3: Param = positive(1e4)

    def __call__(self, t: Real, y: Float[Array, "3"]) -> Float[Array, "3"]:
        """Return the slope of ``(x, y, z)``."""
        del t
        x, y, z = y
        first, second, third = self.k1 * x, self.k2 * y**2, self.k3 * y * z
        return jnp.stack([third - first, first - second - third, second])


class MichaelisMenten(eqx.Module):
    r"""Enzyme :math:`E`, substrate :math:`S`, complex :math:`C` and product :math:`P`, by mass action.

    .. math:: \dot S = -k_f E S + k_r C, \quad \dot E = -k_f E S + (k_r + k_c) C, \quad
              \dot C = k_f E S - (k_r + k_c) C, \quad \dot P = k_c C

    Parameters
    ----------
    forward
        Binding :math:`k_f`, per unit of time and of concentration.
    reverse, catalysis
        :math:`k_r, k_c`, per unit of time; the Michaelis constant is :math:`(k_r + k_c)/k_f`.

    Notes
    -----
    Source: L. Michaelis and M. L. Menten, *Die Kinetik der Invertinwirkung*, Biochemische Zeitschrift 49 (1913). From
    product alone only the Michaelis constant and the greatest rate are determined, where substrate abounds.

    Examples
    --------
    >>> MichaelisMenten()(0.0, jnp.array([2.0, 1.0, 1.0, 0.0])).tolist()
    [-1.0, 0.0, 0.0, 1.0]
    """

    forward: Param = positive(1.0)
    reverse: Param = positive(1.0)
    catalysis: Param = positive(1.0)

    def __call__(self, t: Real, y: Float[Array, "4"]) -> Float[Array, "4"]:
        """Return the slope of ``(S, E, C, P)``."""
        del t
        substrate, enzyme, bound, _ = y
        binding, release, product = self.forward * enzyme * substrate, self.reverse * bound, self.catalysis * bound
        return jnp.stack([release - binding, release + product - binding, binding - release - product, product])


class STAT5(eqx.Module):
    r"""Phosphorylation, dimerisation and shuttling of STAT5A and STAT5B after erythropoietin; rates per minute.

    Two monomers A and B form three dimers in the cytoplasm, at rate :math:`k_\mathrm{phos}` and driven by a stimulus
    :math:`1.25 \cdot 10^{-7} e^{-k_\mathrm{deg} t}`; dimers enter the nucleus, and leave it as monomers.

    Parameters
    ----------
    degradation
        Of erythropoietin.
    phosphorylation
        Per unit of stimulus and of concentration.
    import_homo, import_hetero, export_homo, export_hetero
        Into and out of the nucleus, of dimers of like and of unlike monomers.

    Notes
    -----
    Source: M. E. Boehm et al., *Identification of isoform-specific dynamics in phosphorylation-dependent STAT5
    dimerization by quantitative mass spectrometry and mathematical modeling*, Journal of Proteome Research 13 (2014).
    Default values are the published ones. States: A, B, the dimers AB, AA, BB in the cytoplasm, the dimers AA, AB, BB
    in the nucleus.

    Examples
    --------
    >>> stat5 = STAT5()
    >>> slope = stat5(0.0, jnp.array([143.9, 63.7, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]))
    >>> bool(jnp.abs(slope[0] + slope[1] + 2 * jnp.sum(slope[2:5])) < 1e-9)
    True
    """

    degradation: Param = positive(0.0269825, unit="1/min")
    phosphorylation: Param = positive(15766.5, unit="1/min")
    import_homo: Param = positive(97749.4, unit="1/min")
    import_hetero: Param = positive(0.0163679, unit="1/min")
    export_homo: Param = positive(0.00617023, unit="1/min")
    export_hetero: Param = positive(1.00068e-5, unit="1/min")
    cytoplasm: Param = param(1.4, role="frozen", unit="pl")
    nucleus: Param = param(0.45, role="frozen", unit="pl")

    def __call__(self, t: Real, y: Float[Array, "8"]) -> Float[Array, "8"]:
        """Return the slopes of the concentrations."""
        a, b, ab, aa, bb, aa_in, ab_in, bb_in = y
        drive = 1.25e-7 * jnp.exp(-self.degradation * t) * self.phosphorylation
        form_aa, form_ab, form_bb = drive * a**2, drive * a * b, drive * b**2
        enter_aa, enter_ab, enter_bb = self.import_homo * aa, self.import_hetero * ab, self.import_homo * bb
        leave_aa, leave_ab, leave_bb = self.export_homo * aa_in, self.export_hetero * ab_in, self.export_homo * bb_in
        out, into = self.nucleus / self.cytoplasm, self.cytoplasm / self.nucleus
        return jnp.stack(
            [
                out * (2 * leave_aa + leave_ab) - 2 * form_aa - form_ab,
                out * (2 * leave_bb + leave_ab) - 2 * form_bb - form_ab,
                form_ab - enter_ab,
                form_aa - enter_aa,
                form_bb - enter_bb,
                into * enter_aa - leave_aa,
                into * enter_ab - leave_ab,
                into * enter_bb - leave_bb,
            ]
        )
