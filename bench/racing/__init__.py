"""The parts of bench/races.py: what each measures, how, and what is kept of it."""
