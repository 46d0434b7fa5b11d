"""What hours cost by the price list of a site."""

from __future__ import annotations

from dataclasses import dataclass

from hpctrain.cost.machine import Machine
from hpctrain.profile.sections.prices import PriceSection, PricesSection
from hpctrain.profile.site import Site


@dataclass(frozen=True)
class HourlyPrice:
    """What one hour of the machines of a job costs.

    Parameters
    ----------
    amount : float
        Price of one hour of all nodes together.
    currency, date : str
        Currency, and day of the price list.
    entry : PriceSection
        The entry of the list.
    note : str
        What is doubtful about it; empty if nothing.
    """

    amount: float
    currency: str
    date: str
    entry: PriceSection
    note: str = ""


def hourly_price(machine: Machine, site: Site | None) -> HourlyPrice | None:
    """Return what one hour of these machines costs; None if the site has no price for them.

    The price is that of the instance type if the profile names one, else that of the partition. What is charged for
    GPUs, cores and nodes is added up.
    """
    prices = site.prices if site else None
    entry = entry_for(prices, machine)
    if prices is None or entry is None:
        return None
    amount = amount_per_hour(entry, machine, machine.is_spot)
    has_spot = entry.spot_gpu_hour is not None or entry.spot_node_hour is not None
    note = "" if has_spot or not machine.is_spot else "the price list has no spot price: that of other machines is used"
    return HourlyPrice(amount, prices.currency, prices.date, entry, note)


def entry_for(prices: PricesSection | None, machine: Machine) -> PriceSection | None:
    """Return the entry of a price list for these machines; None if it has none."""
    if prices is None:
        return None
    if machine.instance_type is not None:
        return prices.instance_types.get(machine.instance_type)
    return prices.partitions.get(machine.partition) if machine.partition else None


def amount_per_hour(entry: PriceSection, machine: Machine, is_spot: bool) -> float:
    """Return what one hour of all nodes costs; without a spot price, that of other machines is used."""
    per_gpu, per_node, per_core = entry.gpu_hour, entry.node_hour, entry.core_hour
    if is_spot and (entry.spot_gpu_hour is not None or entry.spot_node_hour is not None):
        per_gpu, per_node, per_core = entry.spot_gpu_hour, entry.spot_node_hour, None
    return (per_gpu or 0.0) * machine.gpus + (per_node or 0.0) * machine.nodes + (per_core or 0.0) * machine.cores


def amount_text(amount: float, currency: str) -> str:
    """Return an amount of money as text, with cents where they matter: ``1,234.50 EUR``, ``0.0031 EUR``."""
    return f"{amount:,.2f} {currency}" if amount >= 0.1 or not amount else f"{amount:.2g} {currency}"
