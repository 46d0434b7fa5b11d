"""What runs have cost and will cost: hours, energy, CO2, money; which machine is the cheapest; budgets. No torch."""
