"""Metrics of complexity: is the map simple enough to be read?"""
