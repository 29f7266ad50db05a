"""Meshes, lanes and jobs: how work is spread over the local devices."""
