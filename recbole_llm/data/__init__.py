"""Histories kept as offsets, dense training windows and fixed candidates, on top of RecBole's data sets."""
