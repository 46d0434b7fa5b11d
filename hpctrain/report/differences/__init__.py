"""What differs between two runs: profiles, data, code, machines and curves."""
