"""Columns' vectors × experts and their mixtures × towers × what tasks pass on; sizes are explicit."""
