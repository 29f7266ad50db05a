"""Many images, classes and explainers: plan, run, resume, store."""
