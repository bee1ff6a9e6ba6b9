"""Measurements on real servers. Figures, no judgement."""
