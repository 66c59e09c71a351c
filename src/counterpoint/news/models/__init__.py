"""Article encoder × reader encoder × click predictor × tasks."""
