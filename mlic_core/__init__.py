"""Multi-label image recognition with attention: four papers, their losses and metrics, and the study around them."""
